package wg_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

// pair makes hosts a (192.0.2.1, 2001:db8::1; mesh 10.99.0.1, fd99::1) and b
// (….2, with a second mesh address ….3), joined by a cable, with a tunnel.
func pair(t *testing.T) (a, b *host, toA, toB peerOrder) {
	t.Helper()
	netnstest.Require(t)
	a, b = newHost(t, "a"), newHost(t, "b")
	a.ip("link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", b.ns)
	for i, h := range []*host{a, b} {
		n := strconv.Itoa(i + 1)
		h.ip("addr", "add", "192.0.2."+n+"/24", "dev", "up0")
		h.ip("addr", "add", "2001:db8::"+n+"/64", "dev", "up0", "nodad")
		h.ip("link", "set", "up0", "up")
		must(t, "ip", "netns", "exec", h.ns, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
		h.start()
	}
	toA = peerOrder{Key: a.key.Public().String(), Endpoint: netip.MustParseAddrPort("[2001:db8::1]:51871"), AllowedIPs: prefixes("10.99.0.1/32", "fd99::1/128")}
	toB = peerOrder{Key: b.key.Public().String(), Endpoint: netip.MustParseAddrPort("192.0.2.2:51871"),
		AllowedIPs: prefixes("10.99.0.2/32", "10.99.0.3/32", "fd99::2/128")}
	a.tell(order{Peers: []peerOrder{toB}})
	b.tell(order{Peers: []peerOrder{toA}})
	a.up("10.99.0.1", "fd99::1")
	b.up("10.99.0.2", "10.99.0.3", "fd99::2")
	return a, b, toA, toB
}

// up does what datapath/device and datapath/route do.
func (h *host) up(addrs ...string) {
	h.t.Helper()
	for _, a := range addrs {
		h.ip("addr", "add", a, "dev", device, "nodad")
	}
	h.ip("link", "set", device, "up")
	h.ip("route", "add", "10.99.0.0/16", "dev", device)
	h.ip("route", "add", "fd99::/64", "dev", device)
}

func prefixes(ps ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestTunnelCarriesBothFamilies(t *testing.T) {
	a, _, _, toB := pair(t)
	for _, to := range []string{"10.99.0.2", "10.99.0.3", "fd99::2"} {
		if lost := <-a.ping(to, 3, 10*time.Millisecond); lost != 0 {
			t.Errorf("ping %s: %d of 3 lost", to, lost)
		}
	}
	peers := a.tell(order{Peers: []peerOrder{toB}}).Peers
	if len(peers) != 1 || peers[0].RxBytes == 0 || peers[0].TxBytes == 0 || time.Since(peers[0].LastHandshake) > time.Minute {
		t.Errorf("peers of a: %+v; want b with a handshake just now and traffic", peers)
	}
}

// TestDaemonComesAndGoes kills the daemon and starts it anew under traffic.
func TestDaemonComesAndGoes(t *testing.T) {
	a, _, _, toB := pair(t)
	helper := a.helper()
	if lost := <-a.ping("10.99.0.2", 3, 10*time.Millisecond); lost != 0 {
		t.Fatalf("before: %d of 3 lost", lost)
	}
	lost4, lost6 := a.ping("10.99.0.2", 150, 10*time.Millisecond), a.ping("fd99::2", 150, 10*time.Millisecond)
	a.kill()
	a.start()
	kind := a.tell(order{Peers: []peerOrder{toB}}).Kind
	if l4, l6 := <-lost4, <-lost6; l4 != 0 || l6 != 0 {
		t.Errorf("lost over IPv4 %d, IPv6 %d of 150; want none", l4, l6)
	}
	if kind == wg.Userspace && a.helper() != helper {
		t.Errorf("helper is process %d, was %d: want it adopted", a.helper(), helper)
	}
}

// TestRemovedPrefixLeavesOthers takes one of a peer's prefixes under traffic.
func TestRemovedPrefixLeavesOthers(t *testing.T) {
	a, _, _, toB := pair(t)
	if lost := <-a.ping("10.99.0.3", 3, 10*time.Millisecond); lost != 0 {
		t.Fatalf("before: %d of 3 lost", lost)
	}
	lost := a.ping("10.99.0.2", 100, 10*time.Millisecond)
	toB.AllowedIPs = prefixes("10.99.0.2/32", "fd99::2/128")
	for range 20 { // there and back, to meet packets in between
		a.tell(order{Peers: []peerOrder{{Key: toB.Key, Endpoint: toB.Endpoint, AllowedIPs: prefixes("10.99.0.2/32", "10.99.0.3/32", "fd99::2/128")}}})
		a.tell(order{Peers: []peerOrder{toB}})
	}
	if n := <-lost; n != 0 {
		t.Errorf("%d of 100 lost to an address that kept its prefix", n)
	}
	if n := <-a.ping("10.99.0.3", 2, 10*time.Millisecond); n != 2 {
		t.Errorf("%d of 2 lost to the address whose prefix went; want both", n)
	}
	if peers := a.tell(order{Peers: []peerOrder{toB}}).Peers; len(peers) != 1 {
		t.Errorf("peers %+v; want b alone, without a placeholder", peers)
	}
}

// TestKilledHelperIsReplaced kills the helper: the next pass starts another.
func TestKilledHelperIsReplaced(t *testing.T) {
	a, _, _, toB := pair(t)
	old := a.helper()
	if old == 0 {
		if kind := a.tell(order{Peers: []peerOrder{toB}}).Kind; kind != wg.Kernel {
			t.Fatalf("device is %s and has no helper", kind)
		}
		return // the kernel's own has none to kill
	}
	p, err := os.FindProcess(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the device to go", func() bool { return exec.Command("ip", "-n", a.ns, "link", "show", device).Run() != nil })
	a.tell(order{Peers: []peerOrder{toB}})
	a.up("10.99.0.1", "fd99::1")
	if a.helper() == old || a.helper() == 0 {
		t.Fatalf("helper is process %d, was %d", a.helper(), old)
	}
	eventually(t, "traffic again", func() bool { return <-a.ping("10.99.0.2", 1, time.Second) == 0 })
}

func TestRemoveDevice(t *testing.T) {
	a, _, _, _ := pair(t)
	pid := a.helper()
	for range 2 { // the second finds nothing
		a.tell(order{Remove: true})
	}
	if exec.Command("ip", "-n", a.ns, "link", "show", device).Run() == nil {
		t.Error("the device is still there")
	}
	if pid != 0 {
		eventually(t, "the helper to end", func() bool {
			raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			return err != nil || len(raw) == 0
		})
	}
}

// TestProgramIsReplaced takes the daemon's file away while it runs, as an upgrade
// does, before it starts the helper.
func TestProgramIsReplaced(t *testing.T) {
	netnstest.Require(t)
	h := newHost(t, "r")
	program, err := os.ReadFile(h.self)
	if err != nil {
		t.Fatal(err)
	}
	h.self = h.dir + "/plexusd"
	if err := os.WriteFile(h.self, program, 0o700); err != nil {
		t.Fatal(err)
	}
	h.start()
	eventually(t, "the daemon to run", func() bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", h.daemon.Process.Pid))
		return err == nil && exe == h.self
	})
	if err := os.Remove(h.self); err != nil {
		t.Fatal(err)
	}
	if kind := h.tell(order{}).Kind; kind != wg.Kernel && h.helper() == 0 {
		t.Errorf("device is %q and has no helper", kind)
	}
}

// TestHelperInheritsNothing lists what the helper got from a daemon that itself
// had been passed an open file.
func TestHelperInheritsNothing(t *testing.T) {
	a, _, _, _ := pair(t)
	pid := a.helper()
	if pid == 0 {
		t.Log("the kernel's WireGuard needs no helper")
		return
	}
	if got, want := openFiles(t, a.daemon.Process.Pid), a.dir+"/inheritable"; !slices.Contains(got, want) {
		t.Fatalf("the daemon has %q open; want %s among them", got, want)
	}
	log := deviceOptions(device, a.dir).PIDFile + ".log"
	got := openFiles(t, pid)
	if want := []string{"/dev/null", log, log}; !slices.Equal(got[:3], want) {
		t.Errorf("standard streams are %q; want %q", got[:3], want)
	}
	if slices.Contains(got, a.dir+"/inheritable") {
		t.Errorf("the helper inherited a file of the daemon: %q", got)
	}
	if stat := must(t, "ps", "-o", "sid=,pgid=", "-p", strconv.Itoa(pid)); !slices.Equal(strings.Fields(stat), []string{strconv.Itoa(pid), strconv.Itoa(pid)}) {
		t.Errorf("session and group are %q; want %d, its own", stat, pid)
	}
}

// openFiles returns what the descriptors of pid lead to, by number.
func openFiles(t *testing.T, pid int) []string {
	t.Helper()
	var out []string
	for fd := range 64 {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err == nil {
			out = append(out, to)
		}
	}
	return out
}

// eventually polls until ok, for at most 10 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 10 s for %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
