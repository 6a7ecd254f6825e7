package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	captureBuffer = 64 << 20 // bytes the kernel may queue before it drops
	maxFrame      = 1 << 17  // offloads make frames of up to 64 KiB
	drainTime     = 100 * time.Millisecond
)

// Packet is one Ethernet frame as it crossed the bridge.
type Packet struct {
	Time time.Time // when it was read from the kernel
	Data []byte    // from the Ethernet header on; offloads may leave checksums unset
}

// Capture records every frame on the bridge, once each.
type Capture struct {
	sock    *os.File
	done    chan struct{}
	packets []Packet
	err     error
}

// Capture starts recording. The caller must Stop it.
func (l *Lab) Capture() (*Capture, error) {
	sock, err := l.Fabric.packetSocket()
	if err != nil {
		return nil, fmt.Errorf("capture on bridge: %w", err)
	}
	c := &Capture{sock: sock, done: make(chan struct{})}
	go c.record()
	return c, nil
}

func (c *Capture) record() {
	defer close(c.done)
	buf := make([]byte, maxFrame)
	for {
		n, err := c.sock.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			c.err = fmt.Errorf("read capture: %w", err)
			return
		}
		c.packets = append(c.packets, Packet{Time: time.Now(), Data: append([]byte(nil), buf[:n]...)})
	}
}

// Stop ends the capture and returns its frames in order. It is an error when
// the kernel had to drop one, because a proof from a capture needs them all.
func (c *Capture) Stop() ([]Packet, error) {
	if err := c.sock.SetReadDeadline(time.Now().Add(drainTime)); err != nil {
		return nil, fmt.Errorf("stop capture: %w", err)
	}
	<-c.done
	dropped, err := c.drops()
	if dropped > 0 {
		err = fmt.Errorf("capture lost %d frames of %d", dropped, int(dropped)+len(c.packets))
	}
	return c.packets, errors.Join(c.err, err, c.sock.Close())
}

func (c *Capture) drops() (drops uint32, err error) {
	raw, err := c.sock.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		var stats *unix.TpacketStats
		if stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			drops = stats.Drops
		}
	})
	return drops, errors.Join(ctlErr, err)
}

// packetSocket opens a raw socket on the bridge. A socket stays in the
// namespace it was made in, so only its making needs a thread there.
func (h *Host) packetSocket() (*os.File, error) {
	var index int
	if err := h.inside(func(handle *netlink.Handle) error {
		link, err := handle.LinkByName(bridgeName)
		if err == nil {
			index = link.Attrs().Index
		}
		return err
	}); err != nil {
		return nil, err
	}
	fd := -1
	err := h.Enter(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	sock := os.NewFile(uintptr(fd), "capture")
	if err := listenAll(fd, index); err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	return sock, nil
}

// listenAll binds last, so that no frame arrives before the buffer is large.
// A bridge passes up what it forwards only while it is promiscuous.
func listenAll(fd, index int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
		return fmt.Errorf("set capture buffer: %w", err)
	}
	promisc := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promisc); err != nil {
		return fmt.Errorf("make bridge promiscuous: %w", err)
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return fmt.Errorf("bind capture: %w", err)
	}
	return nil
}

// Enter calls fn on a thread in the host's network namespace: sockets that fn opens
// are of that host. Files are this machine's, and goroutines that fn starts are not
// in the namespace. A thread that cannot return stays locked, and ends with its
// goroutine.
func (h *Host) Enter(fn func() error) error {
	there, err := os.Open(h.nsPath())
	if err != nil {
		return fmt.Errorf("open network namespace of %s: %w", h.Name, err)
	}
	defer there.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			result <- err
			return
		}
		defer back.Close()
		err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = errors.Join(fn(), unix.Setns(int(back.Fd()), unix.CLONE_NEWNET))
		}
		if err == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

func (h *Host) nsPath() string { return "/proc/" + strconv.Itoa(h.pid) + "/ns/net" }
