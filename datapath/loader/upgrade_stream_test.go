package loader

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	streamEvery = 2 * time.Millisecond
	streamLen   = 128 // bytes of a message
	streamWait  = 20 * time.Second
	inOneGo     = 100 // messages each way, which a stage lasts for
)

// flows are streams between both sides: of each family and protocol, one that
// either side opened.
type flows struct {
	all  []*exchange
	stop chan struct{}
	sent sync.WaitGroup
}

// exchange is one of them. Its conns are near and far.
type exchange struct {
	name  string
	conns [2]net.Conn
	sent  [2]atomic.Uint64 // by the side of that number
	got   [2]atomic.Uint64 // of what the side of that number sent, in order
	odd   [2]atomic.Uint64 // numbers of that side that were not the next
}

func (w *town) flows(t *testing.T) *flows {
	t.Helper()
	out := &flows{stop: make(chan struct{})}
	for i, addrs := range townAddrs {
		for opener := range 2 {
			for j, network := range []string{"tcp", "udp"} {
				out.all = append(out.all, w.connect(t, network, opener, addrs, uint16(2*i+j)))
			}
		}
	}
	for _, s := range out.all {
		for side := range 2 {
			go s.read(side)
			out.sent.Go(func() { s.write(side, out.stop) })
		}
	}
	out.goOn(t)
	return out
}

// connect connects both sides; the one that waits does so at its port for others.
func (w *town) connect(t *testing.T, network string, opener int, addrs [2]string, offset uint16) *exchange {
	t.Helper()
	waiter := 1 - opener
	s := &exchange{name: fmt.Sprintf("%s %s, opened by side %d", network, addrs[waiter], opener)}
	bound := netip.AddrPortFrom(netip.MustParseAddr(addrs[waiter]), []uint16{nearPort, farPort}[waiter]+offset)
	from := netip.AddrPortFrom(netip.MustParseAddr(addrs[opener]), 20000+bound.Port())
	if network == "udp" {
		for side, ends := range map[int][2]netip.AddrPort{opener: {from, bound}, waiter: {bound, from}} {
			w.at(t, side, func() { s.conns[side] = dialFrom(t, network, ends) })
		}
	} else {
		var l net.Listener
		w.at(t, waiter, func() { l = waitAt(t, bound) })
		w.at(t, opener, func() { s.conns[opener] = dialFrom(t, network, [2]netip.AddrPort{from, bound}) })
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s.conns[waiter] = c
		l.Close()
	}
	t.Cleanup(func() { s.conns[0].Close(); s.conns[1].Close() })
	if _, err := s.conns[opener].Write(make([]byte, streamLen)); err != nil { // number 0 comes from who opens
		t.Fatal(err)
	}
	_ = s.conns[waiter].SetReadDeadline(time.Now().Add(streamWait))
	if _, err := io.ReadFull(s.conns[waiter], make([]byte, streamLen)); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	_ = s.conns[waiter].SetReadDeadline(time.Time{})
	return s
}

func waitAt(t *testing.T, at netip.AddrPort) net.Listener {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dialFrom(t *testing.T, network string, ends [2]netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: streamWait, LocalAddr: net.UDPAddrFromAddrPort(ends[0])}
	if network == "tcp" {
		d.LocalAddr = net.TCPAddrFromAddrPort(ends[0])
	}
	c, err := d.Dial(network, ends[1].String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *exchange) write(side int, stop <-chan struct{}) {
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	buf := make([]byte, streamLen)
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		binary.BigEndian.PutUint64(buf, s.sent[side].Add(1))
		if _, err := s.conns[side].Write(buf); err != nil {
			s.odd[side].Add(1)
		}
	}
}

// read takes what the other side sends until the connection is closed.
func (s *exchange) read(side int) {
	other := 1 - side
	buf := make([]byte, streamLen)
	for {
		if _, err := io.ReadFull(s.conns[side], buf); err != nil {
			return
		}
		if n := binary.BigEndian.Uint64(buf); n != s.got[other].Load()+1 {
			s.odd[other].Add(1)
			s.got[other].Store(n)
			continue
		}
		s.got[other].Add(1)
	}
}

// goOn waits until every stream has carried some more messages each way.
func (f *flows) goOn(t *testing.T) {
	t.Helper()
	var now [][2]uint64
	for _, s := range f.all {
		now = append(now, [2]uint64{s.sent[0].Load(), s.sent[1].Load()})
	}
	for i, s := range f.all {
		for side := range 2 {
			s.reach(t, side, now[i][side]+inOneGo)
		}
	}
}

func (s *exchange) reach(t *testing.T, side int, n uint64) {
	t.Helper()
	limit := time.NewTimer(streamWait)
	defer limit.Stop()
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for s.got[side].Load() < n {
		select {
		case <-limit.C:
			t.Fatalf("%s: side %d has sent %d, of which %d arrived; want %d", s.name, side, s.sent[side].Load(), s.got[side].Load(), n)
		case <-tick.C:
		}
	}
}

// check ends the streams and wants every message, in order.
func (f *flows) check(t *testing.T) {
	t.Helper()
	close(f.stop)
	f.sent.Wait()
	for _, s := range f.all {
		for side := range 2 {
			s.reach(t, side, s.sent[side].Load())
			if n := s.odd[side].Load(); n > 0 {
				t.Errorf("%s: side %d sent %d messages, and %d times the next one was missing", s.name, side, s.sent[side].Load(), n)
			}
			if n := lost(s.conns[side]); n > 0 {
				t.Errorf("%s: side %d had to send %d segments again that had not arrived", s.name, side, n)
			}
		}
	}
	t.Logf("%d streams, of the first of them %d messages", len(f.all), f.all[0].sent[0].Load())
}

// lost is how many TCP segments were sent again without the other side telling
// (RFC 2883) that it had them: those alone were lost.
func lost(c net.Conn) (n int) {
	conn, ok := c.(*net.TCPConn)
	if !ok {
		return 0
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Total_retrans) - int(info.Dsack_dups)
		}
	})
	return n
}

// knocks are datagrams to a port of either side that no rule allows.
type knocks struct {
	from, at []net.PacketConn
	to       []net.Addr
	through  atomic.Uint64
	tried    atomic.Uint64
	stop     chan struct{}
}

const knockers = 64 // sources of each side and family

// knocks makes them, and shows that they arrive while nothing forbids it.
func (w *town) knocks(t *testing.T) *knocks {
	t.Helper()
	k := &knocks{stop: make(chan struct{})}
	for _, addrs := range townAddrs {
		for side := range 2 {
			w.at(t, side, func() { k.at = append(k.at, packetConn(t, net.JoinHostPort(addrs[side], strconv.Itoa(deniedPort)))) })
			w.at(t, 1-side, func() {
				for range knockers {
					k.from = append(k.from, packetConn(t, net.JoinHostPort(addrs[1-side], "0")))
				}
			})
			k.to = append(k.to, k.at[len(k.at)-1].LocalAddr())
		}
	}
	for i, at := range k.at {
		k.knock(i * knockers)
		_ = at.SetReadDeadline(time.Now().Add(streamWait))
		if _, _, err := at.ReadFrom(make([]byte, streamLen)); err != nil {
			t.Fatalf("without programs, nothing arrives at %s: %v", k.to[i], err)
		}
		_ = at.SetReadDeadline(time.Time{})
	}
	return k
}

func packetConn(t *testing.T, at string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (k *knocks) knock(i int) {
	_, _ = k.from[i].WriteTo(make([]byte, 8), k.to[i/knockers]) // an error is a drop that the sender hears of
	k.tried.Add(1)
}

func (k *knocks) start() {
	for _, at := range k.at {
		go func() {
			for {
				if _, _, err := at.ReadFrom(make([]byte, streamLen)); err != nil {
					return
				}
				k.through.Add(1)
			}
		}()
	}
	go func() {
		tick := time.NewTicker(streamEvery)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-k.stop:
				return
			case <-tick.C:
			}
			for at := range k.to {
				k.knock(at*knockers + i%knockers)
			}
		}
	}()
}

func (k *knocks) check(t *testing.T) {
	t.Helper()
	close(k.stop)
	if tried, through := k.tried.Load(), k.through.Load(); tried < 500 || through > 0 {
		t.Errorf("of %d datagrams that no rule allows, %d arrived; want many tried and none through", tried, through)
	}
}
