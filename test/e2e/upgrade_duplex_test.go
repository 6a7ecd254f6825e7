package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/lab"
)

const (
	pourEvery  = 20 * time.Millisecond
	lateFor    = 5 * time.Second // how long the last messages may take
	lastMark   = 1 << 62         // in a number that says how many there were
	queueBytes = 32 << 20        // of a socket: half a minute of a stream, so that no late reader loses any
	mostHoles  = 10              // that a report names
)

// clock is the time of day in what tests tell.
const clock = "15:04:05.000"

// pourLen is how long a message is, in bytes.
var pourLen = map[string]int{"tcp": 2048, "udp": 256}

// duplex is a flow in which both sides send numbers of their own, so that what
// is lost is known by its direction.
type duplex struct {
	name           string
	active, listen *program // who opens the flow, and who waits for it
}

// side is one side's report.
type side struct {
	Sent       int
	Received   int    // different numbers of the other side
	Highest    int    // of them
	Holes      []hole // in what arrived, at most mostHoles of them
	Disordered int
	Lost       int // TCP segments that were sent again and had not arrived before
	Retrans    int // TCP segments that were sent again
	Gap        time.Duration
	Err        string
}

// hole is a run of numbers that had not arrived when a later one did.
type hole struct {
	First, Last int
	Seen        time.Time
}

func (h hole) String() string {
	return fmt.Sprintf("%d to %d at %s", h.First, h.Last, h.Seen.Format(clock))
}

// pour opens a flow between two addresses and ports and returns once both sides
// have heard from each other.
func pour(t *testing.T, network string, from, to *lab.Host, ends [2]netip.AddrPort) duplex {
	t.Helper()
	d := duplex{name: fmt.Sprintf("%s %s %s to %s %s", network, from.Name, ends[0], to.Name, ends[1])}
	d.listen = launch(t, to, "listen", network, ends[1].String(), ends[0].String())
	d.active = launch(t, from, "pour", network, ends[0].String(), ends[1].String())
	return d
}

// end has both sides stop, and checks that each has all that the other sent.
func (d duplex) end(t *testing.T) {
	t.Helper()
	for _, p := range []*program{d.active, d.listen} {
		p.stdin.Close()
	}
	var a, b side
	for p, s := range map[*program]*side{d.active: &a, d.listen: &b} {
		if err := json.NewDecoder(p.out).Decode(s); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
	}
	t.Logf("%s: %d messages there, %d back; %d segments sent again, longest silence %v", d.name, a.Sent, b.Sent, a.Retrans+b.Retrans, max(a.Gap, b.Gap))
	a.has(t, d.name+", backward", b.Sent)
	b.has(t, d.name+", forward", a.Sent)
}

// has checks that a side received so many messages, each once and in order.
func (s side) has(t *testing.T, what string, sent int) {
	t.Helper()
	if sent == 0 || s.Received != sent || s.Disordered > 0 || s.Lost > 0 || s.Err != "" {
		t.Errorf("%s: of %d messages %d arrived, %d of them again or late; the highest is %d, holes were seen: %v; %d segments lost; error %q",
			what, sent, s.Received, s.Disordered, s.Highest, s.Holes, s.Lost, s.Err)
	}
}

// pouring is one side of a flow at work.
type pouring struct {
	conn net.Conn
	size int

	mu   sync.Mutex
	side side
	seen []bool // by number; 0 is the greeting, and does not count
	last time.Time
	over bool // this side sends no more, and the other may be gone
	told bool // the other side has said how many it sent: owed
	owed int
}

// pourNumbers is the role of both sides; active says who opens the flow.
func pourNumbers(active bool, args []string, done <-chan struct{}) error {
	network := args[0]
	conn, err := meet(active, network, args[1], args[2])
	if err != nil {
		return err
	}
	defer conn.Close()
	p := &pouring{conn: conn, size: pourLen[network], last: time.Now()}
	heard := make(chan struct{})
	received := make(chan struct{})
	go func() {
		defer close(received)
		p.receive(heard)
	}()
	if !active {
		fmt.Println("ready") // to be opened
	}
	if err := p.greet(active, heard, done); err != nil {
		return err
	}
	if active {
		fmt.Println("ready")
	}
	p.send(done)
	p.drain(received)
	return json.NewEncoder(os.Stdout).Encode(p.sum())
}

// meet makes the connection. Both sides name both ends, so that a datagram socket
// too belongs to one flow; the listening side of TCP takes whoever comes first.
func meet(active bool, network, local, remote string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), settled)
	defer cancel()
	control := net.ListenConfig{Control: roomy}
	if active || network == "udp" {
		from, err := netip.ParseAddrPort(local)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{Control: roomy, LocalAddr: net.UDPAddrFromAddrPort(from)}
		if network == "tcp" {
			d.LocalAddr = net.TCPAddrFromAddrPort(from)
		}
		return d.DialContext(ctx, network, remote)
	}
	l, err := control.Listen(ctx, network, local)
	if err != nil {
		return nil, err
	}
	return &expected{listener: l}, nil
}

// roomy gives a socket queues that a stream does not fill.
func roomy(_, _ string, c syscall.RawConn) error {
	var errs []error
	err := c.Control(func(fd uintptr) {
		for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			errs = append(errs, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, queueBytes))
		}
	})
	return errors.Join(append(errs, err)...)
}

// expected is a connection that the first read waits for.
type expected struct {
	net.Conn
	listener net.Listener
	once     sync.Once
	err      error
}

func (e *expected) Read(b []byte) (int, error) {
	e.once.Do(func() {
		e.Conn, e.err = e.listener.Accept()
	})
	if e.err != nil {
		return 0, e.err
	}
	return e.Conn.Read(b)
}

func (e *expected) Close() error { return e.listener.Close() }

// greet sends number 0 until the other side has answered.
func (p *pouring) greet(active bool, heard, done <-chan struct{}) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(settled)
	for {
		if active {
			p.write(0)
		}
		select {
		case <-heard:
			p.write(0)
			return nil
		case <-done:
			return errors.New("ended before the other side was heard")
		case <-limit:
			if active {
				return errors.New("the other side never answered")
			}
		case <-tick.C:
		}
	}
}

func (p *pouring) write(n int) {
	text := append(binary.BigEndian.AppendUint64(nil, uint64(n)), mark...)
	_, err := p.conn.Write(append(text, make([]byte, p.size-len(text))...))
	p.fail(err)
}

func (p *pouring) send(done <-chan struct{}) {
	tick := time.NewTicker(pourEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-done:
			p.mu.Lock()
			p.over = true
			p.mu.Unlock()
			return
		case <-tick.C:
		}
		p.write(n)
		p.mu.Lock()
		p.side.Sent = n
		p.mu.Unlock()
	}
}

// receive reads until there is nothing to read from, and closes heard at the
// first message.
func (p *pouring) receive(heard chan<- struct{}) {
	buf := make([]byte, p.size)
	for first := true; ; first = false {
		_, err := io.ReadFull(p.conn, buf)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout(), errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.fail(err)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return
			}
			continue
		}
		if first {
			close(heard)
		}
		p.note(int(binary.BigEndian.Uint64(buf)))
	}
}

func (p *pouring) note(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.side.Gap, p.last = max(p.side.Gap, now.Sub(p.last)), now
	if n&lastMark != 0 {
		p.told, p.owed = true, n&^lastMark
		return
	}
	if n == 0 {
		return
	}
	for len(p.seen) <= n {
		p.seen = append(p.seen, false)
	}
	if n < p.side.Highest || p.seen[n] {
		p.side.Disordered++
	}
	if !p.seen[n] {
		p.side.Received++
	}
	if n > p.side.Highest+1 && len(p.side.Holes) < mostHoles {
		p.side.Holes = append(p.side.Holes, hole{p.side.Highest + 1, n - 1, now})
	}
	p.seen[n], p.side.Highest = true, max(p.side.Highest, n)
}

func (p *pouring) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || p.over {
		return
	}
	p.side.Err = err.Error()
}

// drain tells the other side how many messages there were, until this side has
// as many as the other tells of.
func (p *pouring) drain(received <-chan struct{}) {
	limit := time.After(lateFor)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for done := false; !done; {
		p.mu.Lock()
		done = p.told && p.side.Received == p.owed
		last := lastMark | p.side.Sent
		p.mu.Unlock()
		p.write(last)
		if done {
			return
		}
		select {
		case <-received:
			return
		case <-limit:
			return
		case <-tick.C:
		}
	}
}

func (p *pouring) sum() side {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.side.Lost, p.side.Retrans = resent(p.conn)
	return p.side
}

// resent asks the kernel how many TCP segments it sent again, and how many of
// those the other side had not got already (RFC 2883 has it say so): a late
// answer alone makes the kernel send again.
func resent(c net.Conn) (lost, all int) {
	if e, ok := c.(*expected); ok {
		c = e.Conn
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return 0, 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1, -1
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			all = int(info.Total_retrans)
			lost = max(0, all-int(info.Dsack_dups))
		}
	})
	return lost, all
}

// pourFlows opens flows between two hosts for every pair of addresses: by both
// networks, and with each side opening one of each. Ports count from base.
func pourFlows(t *testing.T, base int, a, b *lab.Host, pairs [][2]netip.Addr) []duplex {
	t.Helper()
	var out []duplex
	for i, pair := range pairs {
		for j, network := range []string{"tcp", "udp"} {
			port := uint16(base + 4*i + 2*j)
			out = append(out,
				pour(t, network, a, b, [2]netip.AddrPort{netip.AddrPortFrom(pair[0], activePorts+port), netip.AddrPortFrom(pair[1], pourPorts+port)}),
				pour(t, network, b, a, [2]netip.AddrPort{netip.AddrPortFrom(pair[1], activePorts+port+1), netip.AddrPortFrom(pair[0], pourPorts+port+1)}))
		}
	}
	return out
}

// Where flows are waited for, and where they come from: these ports and the 99
// after them.
const pourPorts, activePorts = 7000, 17000
