package traffic

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

const streamBuffer = 256 << 10

// Stream is one TCP connection, and counts the bytes that arrive.
type Stream struct{ send, recv int }

// NewStream connects.
func NewStream(p Path) (*Stream, error) {
	l, err := listen(p, 1)
	if err != nil {
		return nil, err
	}
	defer unix.Close(l)
	send, err := bound(p.From, unix.SOCK_STREAM, p.Source)
	if err != nil {
		return nil, err
	}
	if err := connect(send, p.Destination); err != nil {
		return nil, closing(send, fmt.Errorf("connect to %s: %w", p.Destination, err))
	}
	recv, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, closing(send, fmt.Errorf("accept at %s: %w", p.Destination, err))
	}
	s := &Stream{send, recv}
	if err := errors.Join(bounded(send, unix.SO_SNDTIMEO), bounded(recv, unix.SO_RCVTIMEO)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// connect gives up after a second: nothing here takes longer, unless it is dropped.
func connect(fd int, to netip.AddrPort) error {
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	return unix.Connect(fd, sockaddr(to))
}

func listen(p Path, backlog int) (int, error) {
	l, err := bound(p.To, unix.SOCK_STREAM, p.Destination)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(l, backlog); err != nil {
		return -1, closing(l, fmt.Errorf("listen at %s: %w", p.Destination, err))
	}
	return l, nil
}

// Measure counts bytes. What the sender still has in its buffer arrives in the
// next measurement.
func (s *Stream) Measure(span Span) (float64, error) {
	var t threads
	in, out := make([]byte, streamBuffer), make([]byte, streamBuffer)
	t.spawn(receivers, func() error {
		n, err := unix.Read(s.recv, in)
		if err == nil && n == 0 {
			return errors.New("receive stream: it was closed")
		}
		t.arrived.Add(uint64(max(n, 0)))
		return again(err)
	})
	t.spawn(senders, func() error {
		_, err := unix.Write(s.send, out)
		return again(err)
	})
	return t.rate(span)
}

// Close closes both ends.
func (s *Stream) Close() error { return errors.Join(unix.Close(s.send), unix.Close(s.recv)) }
