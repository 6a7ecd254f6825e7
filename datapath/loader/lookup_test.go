package loader

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

// blank empties tables behind the programs' back, without a new revision: a packet
// that still passes was not judged by them.
func (h *host) blank(t testing.TB, tables ...*ebpf.Map) {
	t.Helper()
	for _, m := range tables {
		for _, key := range keysOf(t, m) {
			if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Fatalf("empty %s: %v", m, err)
			}
		}
	}
}

func keysOf(t testing.TB, m *ebpf.Map) (keys [][]byte) {
	t.Helper()
	var key any // nil: before the first
	for {
		next, err := m.NextKeyBytes(key)
		if err != nil {
			t.Fatalf("list %s: %v", m, err)
		}
		if next == nil {
			return keys
		}
		key = next
		keys = append(keys, next)
	}
}

// onOneCPU keeps this thread on the CPU that it is on: the cache of flows is each
// CPU's own.
func onOneCPU(t testing.TB) {
	t.Helper()
	cpu, _, errno := unix.Syscall(unix.SYS_GETCPU, 0, 0, 0)
	var set unix.CPUSet
	set.Set(int(cpu))
	if err := unix.SchedSetaffinity(0, &set); errno != 0 || err != nil {
		t.Fatalf("stay on one CPU: %v, %v", errno, err)
	}
}

// eachFlow opens a flow through each program, in each family and protocol.
func (h *host) eachFlow(t testing.TB, fn func(name string, d direction, p packet)) {
	t.Helper()
	for _, d := range h.directions() {
		for _, f := range families {
			fn(d.program+"/"+f.name+"/TCP", d, d.open(t, f.name, tcp))
			fn(d.program+"/"+f.name+"/UDP", d, d.open(t, f.name, udp))
		}
	}
}

// TestOpenFlowsNeedNoPolicy shows that a packet of an open flow is not looked for
// in policy, addresses or pinholes: it passes though all of them are gone. What
// passes is the flow: the packet of another is dropped then.
func TestOpenFlowsNeedNoPolicy(t *testing.T) {
	netnstest.Run(t, func() {
		h := benchHost(t)
		var checks []func()
		h.eachFlow(t, func(name string, d direction, p packet) {
			checks = append(checks, func() {
				other := p
				other.sport, other.dport = p.sport+1, p.dport+1
				for _, c := range []struct {
					what   string
					packet packet
					want   uint32
				}{{"short way", p, pass}, {"long way", p.long(), pass}, {"another flow", other, drop}} {
					if got := d.feed(c.packet.frame()); got != c.want {
						t.Errorf("%s, %s: verdict %d without policy, want %d", name, c.what, got, c.want)
					}
				}
			})
		})
		h.blank(t, h.objs.PlexusPolicyV1, h.objs.PlexusCidrV1, h.objs.PlexusIpcacheV1, h.objs.PlexusPinholeV2, h.objs.PlexusExemptV1)
		for _, check := range checks {
			check()
		}
	})
}

// TestShortWayNeedsNoTable shows that a plain packet of an open flow is looked for
// in the CPU's cache alone: with the tables of flows gone it passes, and is no new
// flow, of which the agent would hear.
func TestShortWayNeedsNoTable(t *testing.T) {
	const attempts = 20 // what the cache says is true for a fraction of a second, which a busy machine may miss
	netnstest.Run(t, func() {
		h := benchHost(t)
		onOneCPU(t)
		h.eachFlow(t, func(name string, d direction, p packet) {
			for range attempts {
				h.drain()
				h.blank(t, h.objs.PlexusCtV2, h.objs.PlexusOpeningV1)
				verdict := d.feed(p.frame())
				if events := h.drain(); verdict == pass && len(events) == 0 {
					return
				}
				d.open(t, map[bool]string{false: "IPv4", true: "IPv6"}[p.v6()], p.proto)
			}
			t.Errorf("%s: a packet of an open flow was judged as a new one, %d times, without the tables of flows", name, attempts)
		})
	})
}
