package traffic

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Namespace calls a function on a thread in a network namespace.
type Namespace func(func() error) error

// Path is two ends, each in its namespace.
type Path struct {
	From, To            Namespace
	Source, Destination netip.AddrPort // port 0 of the source: any
}

// Load is something to measure. It has one user at a time.
type Load interface {
	// Measure makes load for a span, the warm-up not counted.
	Measure(span Span) (float64, error)
	// Close closes its sockets.
	Close() error
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// bound opens a socket in a namespace and binds it. The caller closes it.
func bound(ns Namespace, kind int, at netip.AddrPort) (fd int, err error) {
	err = ns(func() error {
		fd, err = unix.Socket(family(at), kind|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, closing(fd, fmt.Errorf("reuse %s: %w", at, err))
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		return -1, closing(fd, fmt.Errorf("bind to %s: %w", at, err))
	}
	return fd, nil
}

func family(a netip.AddrPort) int {
	if a.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// bounded has an operation on a socket fail with EAGAIN after a while, so that
// nobody waits for what has ended.
func bounded(fd, option int) error {
	short := unix.Timeval{Usec: 10000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &short); err != nil {
		return fmt.Errorf("bound waiting: %w", err)
	}
	return nil
}

func closing(fd int, err error) error {
	_ = unix.Close(fd) // err says more
	return err
}
