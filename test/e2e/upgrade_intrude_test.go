package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/lab"
)

const (
	intrudeEvery = 10 * time.Millisecond // a new flow to each target
	kept         = 100                   // connections to a target waited for at once: for a second each
	fewest       = 20                    // flows to each target, however soon it ends
)

// intruder opens flow after flow to where policy lets it nowhere, each from a
// port of its own, and trap counts what arrives.
type intruder struct {
	name    string
	intrude *program
	trap    *program
}

// intrusion is what came of it, by target.
type intrusion struct {
	Tried    int // flows to each target
	Answered map[string]int
}

// newIntruder starts both programs; addresses are those of the host with the trap.
func newIntruder(t *testing.T, from, to *lab.Host, port int, addresses ...netip.Addr) intruder {
	t.Helper()
	var targets []string
	for _, a := range addresses {
		targets = append(targets, target("udp", a, port), target("tcp", a, port))
	}
	i := intruder{name: from.Name + " to " + to.Name, trap: launch(t, to, "trap", fmt.Sprint(port))}
	i.intrude = launch(t, from, "intrude", targets...)
	return i
}

// end stops both and returns how many flows to each target were tried, and for
// each target how many arrived or were answered.
func (i intruder) end(t *testing.T) (tried int, through map[string]int) {
	t.Helper()
	var tries intrusion
	i.intrude.stdin.Close()
	err := json.NewDecoder(i.intrude.out).Decode(&tries)
	i.trap.stdin.Close()
	if err == nil {
		err = json.NewDecoder(i.trap.out).Decode(&through)
	}
	if err != nil {
		t.Fatalf("%s: %v", i.name, err)
	}
	for to, n := range tries.Answered {
		through[to] = max(through[to], n)
	}
	t.Logf("%s: %d flows to each target, of which came through: %v", i.name, tries.Tried, through)
	return tries.Tried, through
}

// trap is the role of one who counts the flows that arrive at a port: datagrams
// and accepted connections by the address that they were sent to.
func trap(args []string, done <-chan struct{}) error {
	addrs, err := localAddrs()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	count := map[string]int{}
	add := func(to string) {
		mu.Lock()
		defer mu.Unlock()
		count[to]++
	}
	for _, a := range addrs {
		at := net.JoinHostPort(a.String(), args[0])
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		go trapUDP(udp, func() { add("udp/" + at) })
		tcp, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		go trapTCP(tcp, func() { add("tcp/" + at) })
	}
	fmt.Println("ready")
	<-done
	mu.Lock()
	defer mu.Unlock()
	return json.NewEncoder(os.Stdout).Encode(count)
}

func trapUDP(c net.PacketConn, add func()) {
	buf := make([]byte, 2048)
	for {
		if _, _, err := c.ReadFrom(buf); err != nil {
			return
		}
		add()
	}
}

func trapTCP(l net.Listener, add func()) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		c.Close()
		add()
	}
}

// intrude is the role of one who opens flows.
func intrude(targets []string, done <-chan struct{}) error {
	out := intrusion{Answered: map[string]int{}}
	var waiting []attempt
	fmt.Println("ready")
	tick := time.NewTicker(intrudeEvery)
	defer tick.Stop()
	for open := true; open; out.Tried++ {
		for _, to := range targets {
			a, err := try(to)
			if err != nil {
				return fmt.Errorf("open flow to %s: %w", to, err)
			}
			if a.fd >= 0 {
				waiting = append(waiting, a)
			}
		}
		for ; len(waiting) > kept*len(targets); waiting = waiting[1:] {
			waiting[0].settle(out.Answered)
		}
		select {
		case <-done:
			open = out.Tried < fewest
		case <-tick.C:
		}
	}
	<-time.After(patience) // for answers to the last
	for _, a := range waiting {
		a.settle(out.Answered)
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// attempt is a connection that was asked for. fd is -1 for a datagram.
type attempt struct {
	to string
	fd int
}

// try sends the first packet of a flow and waits for nothing. A host whose tunnel
// is away may have no way to the target: that is no intrusion.
func try(to string) (attempt, error) {
	network, address, _ := strings.Cut(to, "/")
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return attempt{}, err
	}
	kind := unix.SOCK_STREAM
	if network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	family, sa := sockaddr(ap)
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return attempt{}, err
	}
	err = unix.Connect(fd, sa)
	if network == "udp" {
		if err == nil {
			_, _ = unix.Write(fd, message(1))
		}
		return attempt{fd: -1}, unix.Close(fd)
	}
	return attempt{to: to, fd: fd}, nil
}

func sockaddr(ap netip.AddrPort) (family int, sa unix.Sockaddr) {
	if ap.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}

// settle counts the attempt if anybody has answered, if only to refuse it.
func (a attempt) settle(answered map[string]int) {
	defer unix.Close(a.fd)
	_, err := unix.Getpeername(a.fd)
	failure, _ := unix.GetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil || unix.Errno(failure) == unix.ECONNREFUSED || unix.Errno(failure) == unix.ECONNRESET {
		answered[a.to]++
	}
}
