package loader

import (
	"bytes"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// governed attaches both stages to links.
func governed(t testing.TB, links ...datapath.Link) earlyHost {
	t.Helper()
	h := newEarlyHost(t)
	h.prepare()
	if err := h.EnsureLinks(links); err != nil {
		t.Fatal(err)
	}
	if without := h.early.Ensure(links); len(without) != 0 {
		t.Fatalf("links without the early stage: %v", without)
	}
	return h
}

// earlyProgram returns the program that XDP runs on a device, natively; 0 for none.
func earlyProgram(t testing.TB, device string) uint32 {
	t.Helper()
	x := linkByName(t, device).Attrs().Xdp
	if x == nil || !x.Attached {
		return 0
	}
	if x.AttachMode != 1 { // XDP_ATTACHED_DRV
		t.Errorf("XDP on %s is attached in mode %d, want the driver's", device, x.AttachMode)
	}
	return x.ProgId
}

// deniedDatagram is one that earlyRules deny.
func deniedDatagram() packet {
	return packet{src: families[0].inCIDR, dst: "192.0.2.1", proto: udp, sport: 7, dport: 7, payload: numbered(1)}
}

func TestEarlyStageOnWire(t *testing.T) {
	links := []datapath.Link{{Name: "plx.0"}}
	netnstest.Run(t, func() {
		wire := newCable(t, "plx.0")
		h := governed(t, links...)
		sock := listen(t, "192.0.2.1")
		allowed := deniedDatagram()
		allowed.src = families[0].narrow
		for n := range uint32(20) {
			allowed.payload = numbered(n + 2)
			for _, p := range []packet{deniedDatagram(), allowed} {
				if err := wire.send(p); err != nil {
					t.Fatal(err)
				}
			}
			if !arrives(sock, n+2) {
				t.Fatalf("allowed datagram %d did not arrive", n)
			}
		}
		if dropped, _ := h.earlyCounters(); dropped != 20 {
			t.Errorf("%d packets dropped early, want 20", dropped)
		}
		if err := h.early.Close(); err != nil {
			t.Fatal(err)
		}
		if got := earlyProgram(t, "plx.0"); got == 0 {
			t.Error("the stage was detached when its process ended")
		}
		h.passesEarly(wire)
	})
}

// passesEarly waits until the early stage drops nothing: the kernel ends it soon
// after its process, not at once. Never is such a packet let through.
func (h earlyHost) passesEarly(wire *cable) {
	h.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		early, _ := h.earlyCounters()
		all := judged(h.t, h.Datapath, policy.Ingress)
		if err := wire.send(deniedDatagram()); err != nil {
			h.t.Fatal(err)
		}
		for judged(h.t, h.Datapath, policy.Ingress) == all && time.Now().Before(deadline) { // either stage counts it
			runtime.Gosched()
		}
		if now, _ := h.earlyCounters(); now == early {
			return
		}
	}
	h.t.Error("the early stage works on without its process")
}

// TestEarlyStageTakesOver runs a second agent after the first.
func TestEarlyStageTakesOver(t *testing.T) {
	links := []datapath.Link{{Name: "plx.0"}, {Name: "plexus0", Tunnel: true}}
	netnstest.Run(t, func() {
		newCable(t, "plx.0")
		first := governed(t, links[0])
		before := earlyProgram(t, "plx.0")
		second := openEarly(t, first.Datapath)
		for range 2 { // again is no change
			if without := second.Ensure(links); len(without) != 0 {
				t.Fatalf("links without the early stage: %v", without)
			}
		}
		if after := earlyProgram(t, "plx.0"); after == 0 || after == before {
			t.Errorf("program %d, want another than %d", after, before)
		}
		if got, err := first.ListEarly(); err != nil || !cmp.Equal(got, []string{"plx.0"}) {
			t.Errorf("links %v, %v", got, err)
		}
		if err := first.PruneEarly(nil); err != nil {
			t.Fatal(err)
		}
		if got := earlyProgram(t, "plx.0"); got != 0 {
			t.Errorf("program %d is still attached", got)
		}
		if got, err := first.ListEarly(); err != nil || len(got) != 0 {
			t.Errorf("links %v, %v", got, err)
		}
	})
}

// TestEarlyStageOfNewInterface finds the pin of an interface that is gone.
func TestEarlyStageOfNewInterface(t *testing.T) {
	links := []datapath.Link{{Name: "plx.0"}}
	netnstest.Run(t, func() {
		wire := newCable(t, "plx.0")
		h := governed(t, links...)
		if err := netlink.LinkDel(wire.near); err != nil {
			t.Fatal(err)
		}
		newCable(t, "plx.0")
		if without := h.early.Ensure(links); len(without) != 0 || earlyProgram(t, "plx.0") == 0 {
			t.Errorf("not attached to the new interface: %v", without)
		}
	})
}

// TestCleanupRemovesEarlyStage also has the cleanup of an older version do it,
// which removes pins by their names and knows nothing of XDP.
func TestCleanupRemovesEarlyStage(t *testing.T) {
	for name, cleanup := range map[string]func() error{
		"ours":          func() error { return Cleanup(testRoot) },
		"older version": func() error { return removePins(mapDir(testRoot)) },
	} {
		t.Run(name, func(t *testing.T) {
			netnstest.Run(t, func() {
				newCable(t, "plx.0")
				governed(t, datapath.Link{Name: "plx.0"})
				if err := cleanup(); err != nil {
					t.Fatal(err)
				}
				detached(t, "plx.0")
				if _, err := os.Stat(earlyPin(testRoot, "plx.0")); !os.IsNotExist(err) {
					t.Errorf("its pin is still there: %v", err)
				}
			})
		})
	}
}

// detached waits until nothing is attached: the kernel detaches soon after the pin
// is gone.
func detached(t testing.TB, device string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); earlyProgram(t, device) != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the early stage is still attached")
		}
		runtime.Gosched()
	}
}

// TestEarlyStageGivesWay lists what the stage does without.
func TestEarlyStageGivesWay(t *testing.T) {
	netnstest.Run(t, func() {
		taken := newCable(t, "plx.1")
		other, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		theirs, err := link.AttachXDP(link.XDPOptions{Program: other, Interface: taken.near.Attrs().Index})
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		h := newEarlyHost(t)
		without := h.early.Ensure([]datapath.Link{{Name: "lo"}, {Name: "plx.1"}, {Name: "plxgone"}, {Name: "plexus0", Tunnel: true}})
		for name, want := range map[string]string{"lo": "driver", "plx.1": "another XDP program", "plxgone": "find link"} {
			if err := without[name]; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want an error that says %q", name, err, want)
			}
		}
		if len(without) != 3 {
			t.Errorf("%v, want three links", without)
		}
		if got, err := h.ListEarly(); err != nil || len(got) != 0 {
			t.Errorf("attached to %v, %v", got, err)
		}
	})
}

// TestEarlyStageWithJumboFrames sends packets that lie in several pieces, with an
// MTU that no program has been asked about before 5.18.
func TestEarlyStageWithJumboFrames(t *testing.T) {
	const mtu = 9000
	links := []datapath.Link{{Name: "plx.0"}}
	netnstest.Run(t, func() {
		wire := newCable(t, "plx.0")
		for _, name := range []string{"plx.0", "farplx.0"} {
			if err := netlink.LinkSetMTU(linkByName(t, name), mtu); err != nil {
				t.Fatal(err)
			}
		}
		h := newEarlyHost(t)
		h.prepare()
		if err := h.EnsureLinks(links); err != nil {
			t.Fatal(err)
		}
		without := h.early.Ensure(links)
		if frags := kernelHasFrags(t); frags != (len(without) == 0) {
			t.Fatalf("links without the early stage: %v, on a kernel that knows XDP in pieces: %v", without, frags)
		}
		sock := listen(t, "192.0.2.1")
		for n := range uint32(5) {
			allowed, denied := deniedDatagram(), deniedDatagram()
			allowed.src = families[0].narrow
			allowed.payload = append(numbered(n), bytes.Repeat([]byte{1}, 8000)...)
			denied.payload = append(numbered(n+100), bytes.Repeat([]byte{1}, 8000)...)
			for _, p := range []packet{denied, allowed} {
				if err := wire.send(p); err != nil {
					t.Fatal(err)
				}
			}
			if !arrives(sock, n) {
				t.Fatalf("jumbo frame %d did not arrive", n)
			}
		}
	})
}

// kernelHasFrags reports whether the kernel takes XDP programs for packets in pieces.
func kernelHasFrags(t testing.TB) bool {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	if err == nil {
		_ = p.Close()
	}
	return err == nil
}
