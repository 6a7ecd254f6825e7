package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

const testRoot = "/sys/fs/bpf/plexus"

// What programs return.
const (
	pass = ^uint32(0) // TC_ACT_UNSPEC
	drop = uint32(2)  // TC_ACT_SHOT
	lose = uint32(7)  // TC_ACT_REDIRECT, to no device: a drop of which its sender is not told
)

// ethernet is the variant that BPF_PROG_TEST_RUN can feed: the kernel puts an
// Ethernet header before what any tc program sees there. The other variant gets
// real packets from a TUN device (raw_test.go).
var ethernet = variant{l2Len: 14}

func testOptions() Options {
	return Options{Root: testRoot, CTSize: 1024, Logger: slog.New(slog.DiscardHandler)}
}

// open opens the datapath in the namespaces that the caller runs in.
func open(t testing.TB) *Datapath {
	t.Helper()
	return shared.open(t, testOptions())
}

// newMap makes a map that is not of the programs. Before 5.11, it counts against
// the locked-memory limit, which nothing has raised yet.
func newMap(t testing.TB, spec *ebpf.MapSpec) *ebpf.Map {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// host is a datapath that packets are fed to by hand.
type host struct {
	t testing.TB
	*Datapath
	events *ringbuf.Reader
}

func newHost(t testing.TB) *host {
	t.Helper()
	return hostOn(t, open(t))
}

func hostOn(t testing.TB, d *Datapath) *host {
	t.Helper()
	r, err := ringbuf.NewReader(d.objs.PlexusEventsV1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &host{t: t, Datapath: d, events: r}
}

// fromNetdev, toNetdev, fromTunnel and toTunnel feed a frame to a program and
// return its verdict.
func (h *host) fromNetdev(frame []byte) uint32 { return h.run(h.programs[ethernet].FromNetdev, frame) }
func (h *host) toNetdev(frame []byte) uint32   { return h.run(h.programs[ethernet].ToNetdev, frame) }
func (h *host) fromTunnel(frame []byte) uint32 { return h.run(h.programs[ethernet].FromTunnel, frame) }
func (h *host) toTunnel(frame []byte) uint32   { return h.run(h.programs[ethernet].ToTunnel, frame) }

// run returns drop however a packet is dropped: TestSendersOfOpenConnectionsAreNotTold
// tells the ways apart.
func (h *host) run(p *ebpf.Program, frame []byte) uint32 {
	h.t.Helper()
	if ret := h.runRaw(p, frame); ret != lose {
		return ret
	}
	return drop
}

func (h *host) runRaw(p *ebpf.Program, frame []byte) uint32 {
	h.t.Helper()
	var ret uint32
	err := onFirstCPU(func() (err error) {
		ret, err = p.Run(&ebpf.RunOptions{Data: frame})
		return err
	})
	if err != nil {
		h.t.Fatalf("run %s: %v", p, err)
	}
	return ret
}

// onFirstCPU calls fn on one CPU, always the same: each remembers open flows for a
// moment, and where a packet goes on must not be up to the scheduler. A thread that
// a test has put on one CPU stays there.
func onFirstCPU(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil || may.Count() == 1 {
		return errors.Join(err, fn())
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if may.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	return errors.Join(fn(), unix.SchedSetaffinity(0, &may))
}

// drain returns the events since the last call.
func (h *host) drain() []bpfobj.PlexusFlowEvent {
	h.t.Helper()
	var out []bpfobj.PlexusFlowEvent
	h.events.SetDeadline(time.Unix(1, 0))
	for {
		rec, err := h.events.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			h.t.Fatal(err)
		}
		var e bpfobj.PlexusFlowEvent
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e); err != nil {
			h.t.Fatal(err)
		}
		out = append(out, e)
	}
}

// load puts a policy in force.
func (h *host) load(rules bpfmap.Ruleset) uint32 {
	h.t.Helper()
	rev, err := h.maps.Policy.Load(rules)
	if err != nil {
		h.t.Fatal(err)
	}
	return rev
}

// peers makes addresses known.
func (h *host) peers(peers map[string]datapath.Peer) {
	h.t.Helper()
	up := make(map[netip.Prefix]datapath.Peer)
	for s, p := range peers {
		up[netip.MustParsePrefix(s)] = p
	}
	if err := h.maps.IPCache.Apply(up, nil); err != nil {
		h.t.Fatal(err)
	}
}

// rules is a short way to write policy entries.
type rules map[policy.Key]policy.Entry

func (r rules) set() bpfmap.Ruleset { return bpfmap.Ruleset{Entries: r} }

// port returns the key of one port.
func port(id mesh.Identity, d policy.Direction, proto uint8, port uint16) policy.Key {
	return policy.Key{Identity: id, Direction: d, Protocol: proto, Port: port, PortBits: 16}
}

// all returns the key of every flow with a peer.
func all(id mesh.Identity, d policy.Direction) policy.Key {
	return policy.Key{Identity: id, Direction: d}
}
