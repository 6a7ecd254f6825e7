package loader

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// hole is a pinhole of TCP; remote "" for everybody.
func hole(d policy.Direction, port uint16, remote string) datapath.Pinhole {
	h := datapath.Pinhole{Direction: d, Protocol: tcp, Port: port}
	if remote != "" {
		h.Remote = netip.MustParsePrefix(remote)
	}
	return h
}

// TestPinholesByRemote has a policy that denies everything, so that what passes
// passes by a pinhole.
func TestPinholesByRemote(t *testing.T) {
	const in, out = policy.Ingress, policy.Egress
	holes := []datapath.Pinhole{
		hole(in, 22, ""),
		hole(in, 100, "192.0.2.0/24"), hole(in, 100, "2001:db8::/32"),
		hole(in, 101, "192.0.2.9/32"), hole(in, 101, "2001:db8::9/128"),
		hole(in, 102, "0.0.0.0/0"),
		hole(in, 103, "2000::/3"),
		hole(in, 104, "192.0.0.0/8"), hole(in, 104, "192.0.2.0/24"), hole(in, 104, "192.0.2.9/32"),
		hole(in, 105, ""), hole(in, 105, "192.0.2.9/32"), hole(in, 105, "2001:db8::9/128"),
		hole(out, 200, "192.0.2.0/25"), hole(out, 200, "2001:db8:0:1::/64"),
		hole(out, 201, "192.0.2.53/32"),
	}
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, in): {Deny: true, Rule: 3}, all(0, out): {Deny: true, Rule: 4}}.set())
		if err := h.maps.Pinholes.Apply(holes, nil); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name    string
			d       policy.Direction
			remote  string
			port    uint16
			passing bool
		}{
			{"everybody, IPv4", in, "198.51.100.7", 22, true},
			{"everybody, IPv6", in, "2001:db9::7", 22, true},
			{"in the prefix", in, "192.0.2.255", 100, true},
			{"before the prefix", in, "192.0.1.255", 100, false},
			{"behind the prefix", in, "192.0.3.0", 100, false},
			{"in the IPv6 prefix", in, "2001:db8:ffff::1", 100, true},
			{"behind the IPv6 prefix", in, "2001:db9::1", 100, false},
			{"one address", in, "192.0.2.9", 101, true},
			{"the next address", in, "192.0.2.8", 101, false},
			{"one IPv6 address", in, "2001:db8::9", 101, true},
			{"the next IPv6 address", in, "2001:db8::8", 101, false},
			{"all of IPv4", in, "203.0.113.1", 102, true},
			{"all of IPv4, from IPv6", in, "2001:db8::9", 102, false},
			{"IPv6 alone", in, "2001:db8::9", 103, true},
			{"IPv6 alone, from IPv4", in, "192.0.2.9", 103, false},
			{"widest of three", in, "192.9.9.9", 104, true},
			{"middle of three", in, "192.0.2.7", 104, true},
			{"narrowest of three", in, "192.0.2.9", 104, true},
			{"none of three", in, "193.0.2.9", 104, false},
			{"everybody beside one", in, "198.51.100.7", 105, true},
			{"one beside everybody", in, "192.0.2.9", 105, true},
			{"IPv6, everybody beside one", in, "2001:db8::8", 105, true},
			{"out, in the prefix", out, "192.0.2.127", 200, true},
			{"out, behind the prefix", out, "192.0.2.128", 200, false},
			{"out, in the IPv6 prefix", out, "2001:db8:0:1::5", 200, true},
			{"out, behind the IPv6 prefix", out, "2001:db8:0:2::5", 200, false},
			{"out, one address", out, "192.0.2.53", 201, true},
			{"the other direction", in, "192.0.2.53", 201, false},
			{"the other direction, everybody", out, "192.0.2.53", 22, false},
			{"another port", in, "192.0.2.9", 106, false},
		} {
			t.Run(tt.name, func(t *testing.T) {
				h.t = t
				us := "198.51.100.1"
				if netip.MustParseAddr(tt.remote).Is6() {
					us = "2001:db8:5::1"
				}
				p := packet{src: tt.remote, dst: us, proto: tcp, sport: 1000, dport: tt.port, flags: syn}
				if tt.d == out {
					p.src, p.dst = us, tt.remote
				}
				got := h.judge(tt.d, p)
				if (got.Verdict == pass) != tt.passing || tt.passing && got.Rule != 0 {
					t.Errorf("%s %s port %d: %+v, want passing %v", tt.d, tt.remote, tt.port, got, tt.passing)
				}
			})
		}
		h.t = t
	})
}

// TestPinholesRefuseBothFamilies shows that no IPv6 prefix opens a port to IPv4.
func TestPinholesRefuseBothFamilies(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, remote := range []string{"::/0", "::/1", "::/80", "::ffff:0:0/95"} {
			if err := h.maps.Pinholes.Apply([]datapath.Pinhole{hole(policy.Ingress, 22, remote)}, nil); err == nil {
				t.Errorf("opened for %s, in which IPv4 addresses lie", remote)
			}
		}
		if have, err := h.maps.Pinholes.List(); err != nil || len(have) != 0 {
			t.Errorf("opened %v, %v", have, err)
		}
	})
}

// TestFlowKeepsItsPinhole shows that a known flow is judged again, and cut, once
// its pinhole is narrowed to others.
func TestFlowKeepsItsPinhole(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Deny: true, Rule: 3}}.set())
		wide, narrow := hole(policy.Ingress, 22, "192.0.2.0/24"), hole(policy.Ingress, 22, "192.0.2.9/32")
		if err := h.maps.Pinholes.Apply([]datapath.Pinhole{wide}, nil); err != nil {
			t.Fatal(err)
		}
		kept := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: syn}
		cut := kept
		cut.src = "192.0.2.8"
		if h.fromNetdev(kept.frame()) != pass || h.fromNetdev(cut.frame()) != pass {
			t.Fatal("the wide pinhole is not open")
		}
		if err := h.maps.Pinholes.Apply([]datapath.Pinhole{narrow}, []datapath.Pinhole{wide}); err != nil {
			t.Fatal(err)
		}
		kept.flags, cut.flags = ack, ack
		if got := h.fromNetdev(kept.frame()); got != pass {
			t.Error("a flow did not outlive the change that still lets it pass")
		}
		if got := h.fromNetdev(cut.frame()); got != drop {
			t.Error("a flow outlived its pinhole")
		}
	})
}

// olderPinholes pins the map of an older version, with what it has open, and
// returns a program that uses it, as the programs of that version do.
func olderPinholes(t testing.TB, open ...datapath.Pinhole) *ebpf.Program {
	t.Helper()
	if err := makeRoot(testRoot); err != nil {
		t.Fatal(err)
	}
	m := newMap(t, &ebpf.MapSpec{Name: "plexus_pinhole", Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 4096})
	for _, h := range open {
		k := pinholeKeyV1{Direction: uint8(h.Direction), Protocol: h.Protocol, Port: bpfobj.NetworkOrder(h.Port)}
		if err := m.Put(&k, uint32(0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Pin(filepath.Join(mapDir(testRoot), pinholesV1)); err != nil {
		t.Fatal(err)
	}
	return userOf(t, m)
}

// TestPinholesAreCarriedOver upgrades a host whose programs still read the map of
// an older version: the new map knows its pinholes before any program reads it,
// and the older one goes with the last program that reads it.
func TestPinholesAreCarriedOver(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				newCable(t, "plx0")
				newCable(t, "plx1")
				older := olderPinholes(t, hole(policy.Ingress, 22, ""), hole(policy.Egress, 2379, ""))
				links := []datapath.Link{{Name: "plx0"}, {Name: "plx1"}}
				for _, l := range links {
					attachOlder(t, l.Name, older, how.forbidTCX)
				}
				d := openWith(t, how.forbidTCX)
				want := []datapath.Pinhole{hole(policy.Ingress, 22, ""), hole(policy.Egress, 2379, "")}
				have, err := d.Maps().Pinholes.List()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, have, cmpopts.SortSlices(func(a, b datapath.Pinhole) bool { return a.Compare(b) < 0 }),
					cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
					t.Errorf("pinholes after an upgrade (-want +got):\n%s", diff)
				}
				if err := d.EnsureLinks(links[:1]); err != nil {
					t.Fatal(err)
				}
				if !pinnedMap(pinholesV1) {
					t.Error("the older map is gone while a program reads it")
				}
				if err := d.PruneLinks(links[:1]); err != nil {
					t.Fatal(err)
				}
				if pinnedMap(pinholesV1) {
					t.Error("the older map outlived the programs that read it")
				}
			})
		})
	}
}

func TestCleanupRemovesOlderPinholes(t *testing.T) {
	netnstest.Run(t, func() {
		olderPinholes(t, hole(policy.Ingress, 22, ""))
		if err := open(t).Close(); err != nil {
			t.Fatal(err)
		}
		if !pinnedMap(pinholesV1) {
			t.Fatal("opening removed the older map, which attached programs may read")
		}
		if err := Cleanup(testRoot); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(testRoot); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", testRoot, err)
		}
	})
}

// attachOlder attaches a program as an older version of Plexus did.
func attachOlder(t testing.TB, device string, prog *ebpf.Program, forbidTCX bool) {
	t.Helper()
	older := &Datapath{opts: Options{Root: testRoot, ForbidTCX: forbidTCX}}
	for _, h := range hooks(device, linkByName(t, device).Attrs().Index) {
		if err := older.ensureHook(h, prog); err != nil {
			t.Fatal(err)
		}
	}
}
