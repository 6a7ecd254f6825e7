package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// roleEnv makes this binary a program of a test.
const roleEnv = "PLEXUS_E2E_ROLE"

// program is a process of a test on a host. Closing its input asks it to end.
type program struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// launch starts this binary in a role and waits until it says that it is ready.
func launch(t *testing.T, h *lab.Host, role string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: h.Command(t.Context(), append([]string{self}, args...)...)}
	p.cmd.Env = append(p.cmd.Env, roleEnv+"="+role)
	p.cmd.Stderr = os.Stderr
	p.begin(t)
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s %v on %s says %q: %v; want ready", role, args, h.Name, line, err)
	}
	return p
}

func (p *program) begin(t *testing.T) {
	t.Helper()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(stdout)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// serve starts a program that echoes TCP and UDP on all addresses of the host.
func serve(t *testing.T, h *lab.Host, ports ...string) {
	t.Helper()
	launch(t, h, "serve", ports...)
}

// What comes of a probe. A packet that policy drops is answered by nobody.
const (
	echoed  = "echo"
	silence = "timeout"
	closed  = "refused" // the packet arrived: nobody listens there
)

// target names a service by network and address: tcp/10.210.0.3:5432.
func target(network string, addr netip.Addr, port int) string {
	return fmt.Sprintf("%s/%s", network, netip.AddrPortFrom(addr, uint16(port)))
}

// probe tries all targets at once, each with a connection of its own, and
// returns what came of them in order.
func probe(t *testing.T, from *lab.Host, targets ...string) []string {
	t.Helper()
	p := launch(t, from, "probe", targets...)
	p.stdin.Close()
	var got []string
	if err := json.NewDecoder(p.out).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

// expect polls until every target answers as wanted: a change of policy takes a
// moment, and so does a handshake. Every silence costs a probe's patience.
func expect(t *testing.T, from *lab.Host, want string, targets ...string) {
	t.Helper()
	lab.Eventually(t, settled, fmt.Sprintf("%s from %s to %v", want, from.Name, targets), func() error {
		got := probe(t, from, targets...)
		if !slices.Equal(got, slices.Repeat([]string{want}, len(targets))) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

// report is what a stream came to when it was ended.
type report struct {
	Sent       int
	Missing    []int // numbers that never came back, at most 100 of them
	Disordered int   // echoes that came twice or out of order
	Retrans    int   // TCP segments that the kernel sent again
	Gap        time.Duration
	Err        string
}

// stream starts an endless flow of numbered messages, which the other side
// echoes. It returns once the first one is back.
func stream(t *testing.T, from *lab.Host, target string) *program {
	t.Helper()
	return launch(t, from, "stream", target)
}

// finish ends a stream and returns what came of it.
func (p *program) finish(t *testing.T) report {
	t.Helper()
	p.stdin.Close()
	var r report
	if err := json.NewDecoder(p.out).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// unharmed checks that a stream has lost, repeated, reordered and delayed
// nothing. A segment that was sent again alone is no loss: the kernel also sends
// one again when an answer is late.
func (r report) unharmed(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s: %d messages, %d segments sent again, longest silence %v", what, r.Sent, r.Retrans, r.Gap)
	if r.Sent == 0 || len(r.Missing) > 0 || r.Disordered > 0 || r.Err != "" || r.Gap > time.Second {
		t.Errorf("%s: %+v; want every message back, once, in order and soon", what, r)
	}
}

// play is a role's whole program. It returns the exit code.
func play(role string, args []string) int {
	done := make(chan struct{})
	go func() { // whoever started us closes our input, by wish or by ending
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	err := fmt.Errorf("unknown role %q", role)
	switch role {
	case "serve":
		err = echo(args, done)
	case "probe":
		err = probeAll(args)
	case "stream":
		err = sendNumbers(args[0], done)
	case "lecture":
		err = lecture(args[0], done)
	case "hear":
		err = hear(args[0], done)
	case "listen", "pour":
		err = pourNumbers(role == "pour", args, done)
	case "trap":
		err = trap(args, done)
	case "intrude":
		err = intrude(args, done)
	case "watch":
		err = watch(args, done)
	case "spray":
		err = spray(args, done)
	case "knock":
		err = knock(args[0], done)
	case "without-bpf":
		err = withoutBPF(args)
	case "occupy":
		err = occupy(args[0], done)
	case "keys":
		err = printKeys(args[0], args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// echo listens on TCP on all addresses, and on UDP on each one, so that answers
// come from the address that was asked.
func echo(ports []string, done <-chan struct{}) error {
	addrs, err := localAddrs()
	if err != nil {
		return err
	}
	for _, port := range ports {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go echoTCP(l)
		for _, a := range addrs {
			c, err := net.ListenPacket("udp", net.JoinHostPort(a.String(), port))
			if err != nil {
				return err
			}
			go echoUDP(c)
		}
	}
	fmt.Println("ready")
	<-done
	return nil
}

func localAddrs() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	var out []netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr())
		}
	}
	return out, err
}

func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

func echoUDP(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}

// patience is how long a probe waits. It is shorter than the kernel's first
// retransmission, so that a dropped packet has one chance.
const patience = 900 * time.Millisecond

func probeAll(targets []string) error {
	fmt.Println("ready")
	got := make([]string, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() { got[i] = probeOne(t) })
	}
	wg.Wait()
	return json.NewEncoder(os.Stdout).Encode(got)
}

func probeOne(target string) string {
	network, addr, _ := strings.Cut(target, "/")
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return outcome(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, mark); err != nil {
		return outcome(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(mark))); err != nil {
		return outcome(err)
	}
	return echoed
}
