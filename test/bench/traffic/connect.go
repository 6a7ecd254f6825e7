package traffic

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// pairsOfThreads is how many connections are made at a time: enough that neither
// CPU waits for the other.
const pairsOfThreads = 4

// Connections opens TCP connections and has both ends close them, the server
// first: SYN, FIN and what answers them, and no data. It counts those that are over.
//
// The server's namespace must not keep connections in TIME_WAIT
// (tcp_max_tw_buckets), as their ports are used again at once.
type Connections struct {
	path   Path
	listen int
}

// NewConnections listens, and checks that a connection is let through.
func NewConnections(p Path) (*Connections, error) {
	trial, err := NewStream(p)
	if err != nil {
		return nil, err
	}
	if err := trial.Close(); err != nil {
		return nil, err
	}
	l, err := listen(p, 4*pairsOfThreads)
	if err != nil {
		return nil, err
	}
	if err := bounded(l, unix.SO_RCVTIMEO); err != nil {
		return nil, closing(l, err)
	}
	return &Connections{path: p, listen: l}, nil
}

// Measure counts connections.
func (c *Connections) Measure(span Span) (float64, error) {
	var t threads
	for range pairsOfThreads {
		t.spawn(receivers, func() error {
			done, err := c.serve()
			if done {
				t.arrived.Add(1)
			}
			return err
		})
		t.running[senders].Go(func() {
			t.fail(c.path.From(func() error { return t.loop(senders, c.connect) }))
		})
	}
	return t.rate(span)
}

// connect makes one connection, and closes it once the server has.
func (c *Connections) connect() error {
	fd, err := unix.Socket(family(c.path.Destination), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	if err := unix.Connect(fd, sockaddr(c.path.Destination)); err != nil {
		return closing(fd, fmt.Errorf("connect to %s: %w", c.path.Destination, err))
	}
	return errors.Join(untilClosed(fd), unix.Close(fd))
}

// serve closes one connection, if there is any.
func (c *Connections) serve() (bool, error) {
	fd, _, err := unix.Accept4(c.listen, unix.SOCK_CLOEXEC)
	if err != nil {
		return false, again(err)
	}
	err = unix.Shutdown(fd, unix.SHUT_WR)
	if err == nil {
		err = untilClosed(fd)
	}
	return err == nil, errors.Join(err, unix.Close(fd))
}

// untilClosed waits for the other end to close a connection, however long a
// timeout the listener has left to it.
func untilClosed(fd int) error {
	for {
		n, err := unix.Read(fd, make([]byte, 1))
		if err == nil && n == 0 {
			return nil
		}
		if err := again(err); err != nil {
			return fmt.Errorf("wait for the end of a connection: %w", err)
		}
	}
}

// Close closes the listening socket.
func (c *Connections) Close() error { return unix.Close(c.listen) }
