package traffic

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch      = 64
	udpBuffer  = 32 << 20 // of the receiver: it may be off its CPU for a while
	udpPayload = 18       // bytes: with UDP, IPv4, Ethernet and its checksum, 64
	nap        = 50 * time.Microsecond
)

// UDP sends datagrams of 64 bytes on the wire as fast as one thread can, and
// counts those that the other end reads.
type UDP struct {
	send, recv int
	out, in    messages
}

// NewUDP opens both ends and exchanges a datagram each way: from then on the flow
// is an answered one to whoever tracks it.
func NewUDP(p Path) (*UDP, error) {
	recv, err := bound(p.To, unix.SOCK_DGRAM, p.Destination)
	if err != nil {
		return nil, err
	}
	send, err := bound(p.From, unix.SOCK_DGRAM, p.Source)
	if err != nil {
		return nil, closing(recv, err)
	}
	u := &UDP{send: send, recv: recv, out: newMessages(udpPayload), in: newMessages(2048)}
	if err := errors.Join(unix.Connect(send, sockaddr(p.Destination)), unix.SetsockoptInt(recv, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, udpBuffer)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare sockets to %s: %w", p.Destination, err), u.Close())
	}
	if err := u.greet(); err != nil {
		return nil, errors.Join(fmt.Errorf("exchange datagrams with %s: %w", p.Destination, err), u.Close())
	}
	return u, nil
}

// greet sends one datagram and has it answered.
func (u *UDP) greet() error {
	patience := unix.Timeval{Sec: 1}
	for _, fd := range []int{u.send, u.recv} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err != nil {
			return err
		}
	}
	buf := make([]byte, udpPayload)
	if err := unix.Send(u.send, buf, 0); err != nil {
		return err
	}
	_, from, err := unix.Recvfrom(u.recv, buf, 0)
	if err != nil {
		return err
	}
	if err := unix.Sendto(u.recv, buf, 0, from); err != nil {
		return err
	}
	_, _, err = unix.Recvfrom(u.send, buf, 0)
	return err
}

// Measure counts datagrams. It first greets again, as the flow may have been
// forgotten meanwhile.
func (u *UDP) Measure(span Span) (float64, error) {
	if err := u.drain(); err != nil {
		return 0, err
	}
	if err := u.greet(); err != nil {
		return 0, err
	}
	var t threads
	t.spawn(receivers, func() error {
		n, err := u.in.receive(u.recv)
		if errors.Is(err, unix.EAGAIN) {
			rest(nap) // rather than be woken for each datagram
			return nil
		}
		t.arrived.Add(uint64(n))
		return err
	})
	t.spawn(senders, func() error { return u.out.send(u.send) })
	return t.rate(span)
}

// drain reads what an earlier measurement has left.
func (u *UDP) drain() error {
	for {
		_, err := u.in.receive(u.recv)
		if err != nil {
			return again(err)
		}
	}
}

// Close closes both ends.
func (u *UDP) Close() error { return errors.Join(unix.Close(u.send), unix.Close(u.recv)) }

// messages are a batch for sendmmsg(2) or recvmmsg(2). All use one buffer, which
// nobody reads.
type messages []message

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

func newMessages(size int) messages {
	buf := make([]byte, size)
	iov := &unix.Iovec{Base: &buf[0]}
	iov.SetLen(size)
	all := make(messages, batch)
	for i := range all {
		all[i].header.Iov = iov
		all[i].header.SetIovlen(1)
	}
	return all
}

// send sends the batch, or a part of it. That the other end has no room for more
// is no error of UDP.
func (m messages) send(fd int) error {
	_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), batch, 0, 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("send datagrams: %w", errno)
	}
	return nil
}

// receive reads what is there, and fails with EAGAIN where that is nothing.
func (m messages) receive(fd int) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
