package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// flow returns the one flow that is known and not over.
func (h *host) flow() datapath.Flow {
	h.t.Helper()
	flows, err := h.maps.Flows.List()
	flows = slices.DeleteFunc(flows, func(f datapath.Flow) bool { return f.Expires < 0 })
	if err != nil || len(flows) != 1 {
		h.t.Fatalf("flows: %+v, %v; want one", flows, err)
	}
	return flows[0]
}

// forget removes every known flow and fragment.
func (h *host) forget() {
	h.t.Helper()
	h.forgetCached()
	h.forgetTables()
}

func (h *host) forgetTables() {
	h.t.Helper()
	for _, m := range []*ebpf.Map{h.objs.PlexusCtV2, h.objs.PlexusOpeningV1, h.objs.PlexusFragV1} {
		var key bpfobj.PlexusCtKey // as long as a fragment's
		for m.NextKey(nil, &key) == nil {
			if err := m.Delete(&key); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// forgetCached ends what CPUs know of open flows.
func (h *host) forgetCached() {
	h.t.Helper()
	var key bpfobj.PlexusCtKey
	var value bpfobj.PlexusCtValue
	none := make([]bpfobj.PlexusCacheEntry, ebpf.MustPossibleCPU())
	it := h.objs.PlexusCtV2.Iterate()
	for it.Next(&key, &value) {
		if err := h.objs.PlexusCacheV1.Update(cacheIndex(key), none, ebpf.UpdateExist); err != nil {
			h.t.Fatal(err)
		}
	}
	if it.Err() != nil {
		h.t.Fatal(it.Err())
	}
}

// cacheIndex is that of bpf/lib/cache.h.
func cacheIndex(key bpfobj.PlexusCtKey) uint32 {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, key) // never fails
	var w [5]uint64
	_ = binary.Read(&b, binary.NativeEndian, &w)
	x := (w[1] ^ w[0]) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	x += (w[3] ^ w[2]) + w[4]
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 29
	x *= 0x94d049bb133111eb
	return uint32(x>>40) & 4095
}

// age makes every entry expire by d earlier.
func (h *host) age(d time.Duration) {
	h.t.Helper()
	h.forgetCached()
	h.ageTables(d)
}

// ageTables collects keys first, as an update moves an entry to another place of
// its table.
func (h *host) ageTables(d time.Duration) {
	h.t.Helper()
	for _, table := range []*ebpf.Map{h.objs.PlexusCtV2, h.objs.PlexusOpeningV1} {
		known := map[bpfobj.PlexusCtKey]bpfobj.PlexusCtValue{}
		var key bpfobj.PlexusCtKey
		var value bpfobj.PlexusCtValue
		it := table.Iterate()
		for it.Next(&key, &value) {
			known[key] = value
		}
		if it.Err() != nil {
			h.t.Fatal(it.Err())
		}
		for key, value := range known {
			value.Expires -= min(value.Expires, uint64(d)) // the host may be younger than d
			if err := table.Update(&key, &value, ebpf.UpdateExist); err != nil {
				h.t.Fatal(err)
			}
		}
	}
}

// nextJiffy returns in another jiffy than it was called in: flows of one key that
// follow each other are told apart by when they began.
func nextJiffy(t testing.TB) {
	t.Helper()
	var was, is unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &was)
	for is = was; err == nil && is == was; {
		runtime.Gosched()
		err = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &is)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// step is one packet of a story.
type step struct {
	out   bool // whether it leaves this host
	flags uint8
	state string        // of the flow afterwards
	life  time.Duration // that the flow has then
}

func TestTCPStates(t *testing.T) {
	const (
		opening = 60 * time.Second
		open    = 21600 * time.Second
		closing = 10 * time.Second
	)
	handshake := []step{{false, syn, "syn", opening}, {true, syn | ack, "syn", opening}, {false, ack, "established", open}}
	stories := map[string][]step{
		"handshake":            handshake,
		"repeated opening":     append(handshake[:2:2], step{false, syn, "syn", opening}),
		"data one way":         append(handshake[:3:3], step{true, ack, "established", open}, step{true, ack, "established", open}),
		"half closed":          append(handshake[:3:3], step{false, fin | ack, "established", open}, step{true, ack, "established", open}),
		"closed by both":       append(handshake[:3:3], step{false, fin | ack, "established", open}, step{true, fin | ack, "closing", closing}, step{false, ack, "closing", closing}),
		"reset":                append(handshake[:3:3], step{false, rst | ack, "closing", closing}),
		"reset not believed":   append(handshake[:3:3], step{false, rst, "closing", closing}, step{true, ack, "established", open}),
		"refused":              {{false, syn, "syn", opening}, {true, rst | ack, "closing", closing}},
		"reopened":             append(handshake[:3:3], step{false, rst, "closing", closing}, step{false, syn, "syn", opening}),
		"seen from mid-stream": {{false, ack, "established", open}},
	}
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, tcp, 22): {Rule: 1}}.set())
		for name, story := range stories {
			for _, f := range families {
				t.Run(f.name+"/"+name, func(t *testing.T) {
					h.t = t
					h.forget()
					in := packet{src: f.peer, dst: f.us, proto: tcp, sport: 1000, dport: 22}
					for i, s := range story {
						h.checkStep(fmt.Sprint(i), in, s)
					}
				})
			}
		}
		h.t = t
	})
}

func (h *host) checkStep(name string, in packet, s step) {
	h.t.Helper()
	verdict := uint32(0)
	if s.out {
		p := in.reply()
		p.flags = s.flags
		verdict = h.toNetdev(p.frame())
	} else {
		in.flags = s.flags
		verdict = h.fromNetdev(in.frame())
	}
	f := h.flow()
	if verdict != pass || f.State != s.state || lifetimeOf(f.Expires) != s.life {
		h.t.Errorf("step %s: verdict %d, state %q for %s; want a pass, %q for %s", name, verdict, f.State, f.Expires, s.state, s.life)
	}
}

func TestDatagramLifetimes(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Egress): {Rule: 1}}.set())
		for _, f := range families {
			for _, tt := range []struct {
				name           string
				p              packet
				first, replied time.Duration
			}{
				{"UDP", packet{proto: udp, sport: 9, dport: 53}, time.Minute, 3 * time.Minute},
				{"ping", packet{proto: f.icmp, icmp: [2]uint8{f.echo}, id: 7}, 30 * time.Second, 30 * time.Second},
			} {
				h.forget()
				tt.p.src, tt.p.dst = f.us, f.peer
				if got := h.toNetdev(tt.p.frame()); got != pass {
					t.Fatalf("%s %s: verdict %d", f.name, tt.name, got)
				}
				near(t, h.flow().Expires, tt.first)
				if got := h.fromNetdev(tt.p.reply().frame()); got != pass {
					t.Errorf("%s %s, answer: verdict %d", f.name, tt.name, got)
				}
				near(t, h.flow().Expires, tt.replied)
			}
		}
	})
}

func near(t testing.TB, got, want time.Duration) {
	t.Helper()
	if lifetimeOf(got) != want {
		t.Errorf("flow lives for %s, want %s", got, want)
	}
}

// TestRepliesNeedNoPolicy also shows what a known flow counts, and that it
// causes no events.
func TestRepliesNeedNoPolicy(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Egress, tcp, 443): {Rule: 9}}.set())
		for _, f := range families {
			h.forget()
			out := packet{src: f.us, dst: f.peer, proto: tcp, sport: 1000, dport: 443, flags: syn}
			if got := h.judge(policy.Egress, out); got != allowed(f.world, 9) {
				t.Fatalf("first packet: %+v", got)
			}
			for range 3 {
				if got := h.fromNetdev(out.reply().frame()); got != pass {
					t.Errorf("%s: reply: verdict %d", f.name, got)
				}
			}
			if events := h.drain(); len(events) != 0 {
				t.Errorf("%s: a known flow caused %+v", f.name, events)
			}
			size := uint64(len(out.ip()))
			flow := h.flow()
			if flow.TxPackets != 1 || flow.TxBytes != size || flow.RxPackets != 3 || flow.RxBytes != 3*size {
				t.Errorf("%s: counted %+v, want 1 packet out and 3 in, of %d bytes", f.name, flow, size)
			}
			if flow.Direction != policy.Egress || flow.Remote.Port() != 443 || flow.Local.Addr().String() != f.us || flow.Rule != 9 {
				t.Errorf("%s: flow %+v", f.name, flow)
			}
		}
	})
}

// TestPeerCannotComeBack shows that a flow that we opened lets in its answers
// alone: a connection that the peer opens through it is judged as such.
func TestPeerCannotComeBack(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Egress): {Rule: 1}}.set())
		for _, f := range families {
			h.forget()
			out := packet{src: f.us, dst: f.peer, proto: tcp, sport: 1000, dport: 443, flags: syn}
			ping := packet{src: f.us, dst: f.peer, proto: f.icmp, icmp: [2]uint8{f.echo}, id: 5}
			if h.toNetdev(out.frame()) != pass || h.toNetdev(ping.frame()) != pass {
				t.Fatal("opening was not let out")
			}
			back := out.reply()
			back.flags = syn
			if got := h.judge(policy.Ingress, back); got != byDefault(f.world) {
				t.Errorf("%s: connection back: %+v", f.name, got)
			}
			if got := h.fromNetdev(out.reply().frame()); got != pass {
				t.Errorf("%s: a refused connection back has cut the flow: verdict %d", f.name, got)
			}
			ping.src, ping.dst = ping.dst, ping.src
			if got := h.judge(policy.Ingress, ping); got != byDefault(f.world) {
				t.Errorf("%s: ping back with our identifier: %+v", f.name, got)
			}
		}
	})
}

func TestExpiredFlowIsJudgedAgain(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Egress, udp, 53): {Rule: 1}}.set())
		q := packet{src: "192.0.2.1", dst: "192.0.2.9", proto: udp, sport: 1000, dport: 53}
		if got := h.toNetdev(q.frame()); got != pass {
			t.Fatalf("query: verdict %d", got)
		}
		h.age(2 * time.Minute)
		if got := h.fromNetdev(q.reply().frame()); got != drop {
			t.Errorf("answer after two minutes: verdict %d, want a drop", got)
		}
		if got := h.judge(policy.Egress, q); got.Verdict != pass {
			t.Errorf("query again: %+v", got)
		}
	})
}

// TestTunnelFlowStaysInTunnel shows that nobody outside can continue a flow that
// the tunnel has authenticated, and the reverse.
func TestTunnelFlowStaysInTunnel(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.peers(map[string]datapath.Peer{
			"10.210.0.2/32": {Identity: 300, Flags: datapath.PeerMesh}, "10.210.0.1/32": {Identity: 301, Flags: datapath.PeerMesh | datapath.PeerLocal},
			"fd00::2/128": {Identity: 300, Flags: datapath.PeerMesh}, "fd00::1/128": {Identity: 301, Flags: datapath.PeerMesh | datapath.PeerLocal},
		})
		h.load(rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 2}}.set())
		for _, p := range []packet{
			{src: "10.210.0.2", dst: "10.210.0.1", proto: tcp, sport: 1000, dport: 22, flags: syn},
			{src: "fd00::2", dst: "fd00::1", proto: tcp, sport: 1000, dport: 22, flags: syn},
		} {
			if h.fromTunnel(p.frame()) != pass || h.toTunnel(p.reply().frame()) != pass {
				t.Error("flow through the tunnel was dropped")
			}
			p.flags = ack
			if got := h.judge(policy.Ingress, p); got.Reason != bpfobj.PlexusDropReasonDROP_MESH_SOURCE_OUTSIDE {
				t.Errorf("continued outside: %+v", got)
			}
			if got := h.judge(policy.Egress, p.reply()); got.Reason != bpfobj.PlexusDropReasonDROP_PLAINTEXT {
				t.Errorf("answered outside: %+v", got)
			}
		}
	})
}

func TestSeededFlowKeepsItsDirection(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, tcp, 22): {Rule: 1}}.set())
		for _, f := range families {
			in := packet{src: f.peer, dst: f.us, proto: tcp, sport: 1000, dport: 22, flags: ack}
			first := in.reply()
			if got := h.judge(policy.Egress, first); got != byDefault(f.world) {
				t.Fatalf("our side first, not seeded: %+v", got)
			}
			seed := datapath.Flow{Direction: policy.Ingress, Protocol: tcp, Local: addrPort(f.us, 22), Remote: addrPort(f.peer, 1000), Expires: time.Hour}
			if err := h.maps.Flows.Seed([]datapath.Flow{seed}); err != nil {
				t.Fatal(err)
			}
			if got := h.toNetdev(first.frame()); got != pass {
				t.Errorf("%s: our side first, seeded: verdict %d", f.name, got)
			}
			if got := h.flow(); got.Rule != 1 || got.State != "established" || got.Direction != policy.Ingress {
				t.Errorf("%s: seeded flow: %+v", f.name, got)
			}
			if err := h.maps.Flows.Seed([]datapath.Flow{seed}); err != nil || h.flow().TxPackets != 1 {
				t.Errorf("%s: a known flow was seeded again: %+v, %v", f.name, h.flow(), err)
			}
			h.forget()
			if got := h.toNetdev(first.frame()); got != drop {
				t.Errorf("%s: a forgotten flow: verdict %d", f.name, got)
			}
		}
	})
}
