package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mark is in every message that the tests send: what of it is seen on the wire
// was not encrypted.
const mark = "plexus-e2e-this-must-never-be-read-on-the-wire"

const (
	messageLen = 8 + len(mark)
	sendEvery  = 5 * time.Millisecond
	drainFor   = 2 * time.Second // how long the last echoes may take
	writeFor   = 500 * time.Millisecond
)

// outcome puts the end of a probe into one word, where there is one.
func outcome(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return closed
	case errors.As(err, &timeout) && timeout.Timeout():
		return silence
	}
	return err.Error()
}

// ledger counts what a stream sent and got back.
type ledger struct {
	mu   sync.Mutex
	rep  report
	back map[int]bool
	next int
	last time.Time
	all  chan struct{} // closed when the last message sent is back
	end  int           // how many were sent; 0 while sending
}

// sendNumbers is the role of a stream.
func sendNumbers(target string, done <-chan struct{}) error {
	network, addr, _ := strings.Cut(target, "/")
	c, err := net.DialTimeout(network, addr, settled)
	if err != nil {
		return err
	}
	defer c.Close()
	l := &ledger{back: map[int]bool{}, all: make(chan struct{})}
	if err := l.first(c); err != nil {
		return err
	}
	fmt.Println("ready")
	go l.receive(c)
	l.send(c, done)
	select {
	case <-l.all:
	case <-time.After(drainFor):
	}
	return json.NewEncoder(os.Stdout).Encode(l.sum(c))
}

// first sends message 0 until it is back: a tunnel may have to be made first.
func (l *ledger) first(c net.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), settled)
	defer cancel()
	buf := make([]byte, messageLen)
	for ctx.Err() == nil {
		if _, err := c.Write(message(0)); err != nil {
			return fmt.Errorf("send first message: %w", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := io.ReadFull(c, buf); err == nil {
			l.back[0], l.next, l.last = true, 1, time.Now()
			return c.SetReadDeadline(time.Time{})
		}
	}
	return fmt.Errorf("wait for first echo: %w", ctx.Err())
}

func message(n int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(n)), mark...)
}

func (l *ledger) send(c net.Conn, done <-chan struct{}) {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	go func() { // a connection that was cut takes no more after a while
		<-done
		_ = c.SetWriteDeadline(time.Now().Add(writeFor))
	}()
	for n := 1; ; n++ {
		select {
		case <-done:
			l.finish(n)
			return
		case <-tick.C:
		}
		if _, err := c.Write(message(n)); err != nil {
			l.fail(err)
		}
	}
}

func (l *ledger) receive(c net.Conn) {
	buf := make([]byte, messageLen)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.fail(err)
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				return
			}
			continue
		}
		l.note(int(binary.BigEndian.Uint64(buf)))
	}
}

func (l *ledger) note(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.rep.Gap = max(l.rep.Gap, now.Sub(l.last))
	l.last = now
	if n < l.next || l.back[n] {
		l.rep.Disordered++
	}
	l.back[n] = true
	l.next = max(l.next, n+1)
	l.complete()
}

func (l *ledger) finish(sent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = sent
	l.complete()
}

func (l *ledger) complete() {
	if l.end > 0 && len(l.back) == l.end {
		close(l.all)
	}
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rep.Err = err.Error()
}

func (l *ledger) sum(c net.Conn) report {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rep.Sent = l.end
	l.rep.Gap = max(l.rep.Gap, time.Since(l.last))
	for n := range l.end {
		if !l.back[n] {
			l.rep.Missing = append(l.rep.Missing, n)
		}
	}
	l.rep.Missing = slices.Clip(l.rep.Missing[:min(100, len(l.rep.Missing))])
	l.rep.Retrans = retransmissions(c)
	return l.rep
}

// retransmissions asks the kernel how many segments it sent again: 0 for UDP.
func retransmissions(c net.Conn) int {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Total_retrans)
		}
	})
	return n
}

// occupy holds a port, as tcp/7443, until its input closes.
func occupy(port string, done <-chan struct{}) error {
	network, number, _ := strings.Cut(port, "/")
	var held io.Closer
	var err error
	if network == "udp" {
		held, err = net.ListenPacket(network, ":"+number)
	} else {
		held, err = net.Listen(network, ":"+number)
	}
	if err != nil {
		return err
	}
	defer held.Close()
	fmt.Println("ready")
	<-done
	return nil
}
