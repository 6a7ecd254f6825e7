package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// quiet is how long after a change the next look is taken, since changes come
// in bursts.
const quiet = 100 * time.Millisecond

// groups are the rtnetlink(7) multicast groups whose news can change a [State].
const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE

// Watcher reports uplinks whenever they change.
type Watcher struct {
	options Options
	changed func(State)
	logger  *slog.Logger
}

// NewWatcher returns a Watcher that calls changed with the first state and then
// with every other, from the goroutine of Run.
func NewWatcher(o Options, logger *slog.Logger, changed func(State)) *Watcher {
	return &Watcher{options: o, changed: changed, logger: logger}
}

// Run watches the network namespace that it is called in until ctx ends, and
// then returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	news, err := subscribe()
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	defer news.Close()
	stop := context.AfterFunc(ctx, func() { _ = news.Close() }) // ends the read below
	defer stop()
	var last *State
	for {
		if s, err := Discover(w.options); err != nil {
			w.logger.Warn("uplinks not read", "error", err)
		} else if last == nil || !last.Equal(s) {
			last = &s
			w.changed(s)
		}
		if err := await(ctx, news); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// subscribe opens a socket that becomes readable when something changes. The
// poller of the Go runtime waits for it, so that closing it ends a read.
func subscribe() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd) // nothing was written
		return nil, err
	}
	return os.NewFile(uintptr(fd), "rtnetlink"), nil
}

// await returns after news, and after the quiet time has passed and all that
// came meanwhile is read. What the news are does not matter, nor how many were
// lost (ENOBUFS): the next look sees everything.
func await(ctx context.Context, news *os.File) error {
	buf := make([]byte, 64<<10)
	if err := news.SetReadDeadline(time.Time{}); err != nil {
		return ended(ctx, err)
	}
	if _, err := news.Read(buf); err != nil && !errors.Is(err, unix.ENOBUFS) {
		return ended(ctx, err)
	}
	if err := news.SetReadDeadline(time.Now().Add(quiet)); err != nil {
		return ended(ctx, err)
	}
	for {
		_, err := news.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return ended(ctx, err)
		}
	}
}

// ended keeps the error of a socket that was closed because ctx ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("watch interfaces: %w", err)
}
