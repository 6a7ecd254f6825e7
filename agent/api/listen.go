package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// probeTimeout bounds the question whether another daemon listens.
const probeTimeout = time.Second

// listen opens the socket for root alone. It takes the place of a socket that
// nobody listens on any more, and refuses that of a live daemon.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of socket %s: %w", path, err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := bind(ctx, path)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &lockedListener{Listener: l, unlock: unlock}, nil
}

// lockedListener gives up its lock once its socket is gone.
type lockedListener struct {
	net.Listener
	unlock func()
}

// Close removes the socket and lets another daemon listen.
func (l *lockedListener) Close() error {
	defer l.unlock()
	return l.Listener.Close()
}

var errAnother = errors.New("another plexusd uses this socket: stop it, or give this one its own --runtime-dir")

// lock makes sure that of two daemons that start at once, one alone goes on to
// remove a stale socket. The kernel drops the lock of a process that dies.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return func() { _ = f.Close() }, nil
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errAnother
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

func bind(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	cfg := net.ListenConfig{Control: ownerOnly}
	l, err := cfg.Listen(ctx, "unix", path)
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("path of %d bytes: the kernel takes at most 107; choose a shorter one", len(path))
	}
	return l, err
}

// ownerOnly sets the mode that the socket file gets when it is bound (unix(7)),
// so that there is no moment at which others can connect.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	err := c.Control(func(fd uintptr) { chmodErr = syscall.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmodErr)
}

// removeStale removes a socket that refuses connections, and nothing else.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is no socket is in the way: remove it, or choose another path")
	}
	d := net.Dialer{Timeout: probeTimeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return errAnother
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("ask whether it is in use: %w", err)
	}
	return os.Remove(path)
}
