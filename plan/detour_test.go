package plan

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// directly plans host 1 in a mesh of three that take their node addresses through
// the tunnel, as changed. Host 2 is a server.
func directly(t *testing.T, change func(*state.Tables, *Local)) Desired {
	t.Helper()
	s := state.New("own")
	full.say(t, s)
	l := local()
	l.Port, l.Control = mesh.WireGuardPort, []uint16{2379, 7443}
	s.Update("own", func(tables *state.Tables) {
		for id, n := range tables.Nodes {
			n.Direct, n.Server = n.Addresses, n.Name == "h2"
			tables.Nodes[id] = n
		}
		change(tables, &l)
	})
	return Build(s.Snapshot(), l)
}

func alter(tables *state.Tables, id string, change func(*mesh.Node)) {
	n := tables.Nodes[id]
	change(&n)
	tables.Nodes[id] = n
}

// nodes returns the prefixes that the datapath has for node addresses of peers.
func nodes(d Desired) string {
	var out []string
	for p, peer := range d.IPCache {
		if peer.Flags&datapath.PeerNode != 0 {
			out = append(out, p.Addr().String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func joined(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

func TestNodeAddressesGoThroughTheTunnel(t *testing.T) {
	const all = "192.0.2.2 192.0.2.3 2001:db8::2 2001:db8::3"
	for _, tt := range []struct {
		name     string
		change   func(*state.Tables, *Local)
		to, from string
	}{
		{"of all", func(*state.Tables, *Local) {}, all, "192.0.2.1 2001:db8::1"},
		{"of none, when this host says no", func(ts *state.Tables, _ *Local) {
			alter(ts, "east/h1", func(n *mesh.Node) { n.Direct = nil })
		}, "", ""},
		{"not of one who says no", func(ts *state.Tables, _ *Local) {
			alter(ts, "east/h2", func(n *mesh.Node) { n.Direct = nil })
		}, "192.0.2.3 2001:db8::3", "192.0.2.1 2001:db8::1"},
		{"of all, though this host has no address of a family now", func(_ *state.Tables, l *Local) { l.Addresses = l.Addresses[:1] }, all, "192.0.2.1"},
		{"of all, though this host has another address now", func(_ *state.Tables, l *Local) {
			l.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
		}, all, ""},
		{"of all, though this host has no address now", func(_ *state.Tables, l *Local) { l.Addresses = nil }, all, ""},
		{"not of a peer without a tunnel", func(ts *state.Tables, _ *Local) {
			alter(ts, "east/h2", func(n *mesh.Node) { n.Key = mesh.Key{} })
		}, "192.0.2.3 2001:db8::3", "192.0.2.1 2001:db8::1"},
		{"not of one that this host has too", func(_ *state.Tables, l *Local) {
			l.Addresses = append(l.Addresses, netip.MustParseAddr("192.0.2.2"))
		}, "192.0.2.3 2001:db8::2 2001:db8::3", "192.0.2.1 2001:db8::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := directly(t, tt.change)
			if to, from := joined(d.Detour.To), joined(d.Detour.From); to != tt.to || from != tt.from {
				t.Errorf("leads to %q from %q, want %q from %q", to, from, tt.to, tt.from)
			}
			if marked := nodes(d); marked != tt.to {
				t.Errorf("the datapath expects %q in the tunnel, want %q", marked, tt.to)
			}
			if tt.to == "" && len(d.Exemptions)+len(d.Detour.Exempt) > 0 {
				t.Errorf("exemptions %v, %v from nothing", d.Exemptions, d.Detour.Exempt)
			}
			for _, a := range d.Detour.To {
				if !slices.ContainsFunc(slices.Collect(maps.Values(d.Peers)), func(p encryption.Peer) bool { return slices.Contains(p.AllowedIPs, mesh.HostPrefix(a)) }) {
					t.Errorf("%s goes into the tunnel, and no peer takes it there", a)
				}
			}
		})
	}
}

// TestAnAddressThatThisHostLost: what the others still know this host by is not in
// plaintext with them, and neither is what it has instead.
func TestAnAddressThatThisHostLost(t *testing.T) {
	whole := directly(t, func(*state.Tables, *Local) {})
	fresh := netip.MustParsePrefix("192.0.2.9/32")
	for _, now := range [][]netip.Addr{nil, {fresh.Addr()}, {netip.MustParseAddr("2001:db8::1")}, {netip.MustParseAddr("2001:db8::9")}} {
		d := directly(t, func(_ *state.Tables, l *Local) { l.Addresses = now })
		for _, a := range append(whole.Detour.From, now...) {
			if got := d.IPCache[mesh.HostPrefix(a)]; got != (datapath.Peer{Identity: d.Self, Flags: datapath.PeerLocal}) {
				t.Errorf("with the addresses %v, %s is %+v, want one of this host", now, a, got)
			}
		}
		if diff := cmp.Diff(whole.Exemptions, d.Exemptions, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("with the addresses %v, exemptions differ (-before +after):\n%s", now, diff)
		}
		checkUnled(t, d)
	}
}

// TestAPeerWithoutAWayToIt: one with whom this host shares no family just now is
// no peer, and its addresses still are none for plaintext.
func TestAPeerWithoutAWayToIt(t *testing.T) {
	d := directly(t, func(ts *state.Tables, l *Local) {
		alter(ts, "east/h3", func(n *mesh.Node) { n.Addresses = n.Addresses[:1]; n.Direct = n.Addresses })
		l.Addresses = l.Addresses[1:]
	})
	if len(d.Peers) != 1 || nodes(d) != "192.0.2.2 192.0.2.3 2001:db8::2" || joined(d.Detour.To) != nodes(d) {
		t.Errorf("%d peers, %q through the tunnel, %q led there", len(d.Peers), nodes(d), joined(d.Detour.To))
	}
}

// TestExemptions: what the tunnel needs and what mends it, and nothing else.
func TestExemptions(t *testing.T) {
	const dhcp = "|egress 67/UDP to 0.0.0.0/0|egress 68/UDP to 0.0.0.0/0|ingress 67/UDP from 0.0.0.0/0|ingress 68/UDP from 0.0.0.0/0"
	const wg2, wg3 = "egress 51871/UDP to 192.0.2.2/32|egress 51871/UDP to 2001:db8::2/128|", "egress 51871/UDP to 192.0.2.3/32|egress 51871/UDP to 2001:db8::3/128|"
	for _, tt := range []struct {
		name   string
		change func(*state.Tables, *Local)
		want   string
	}{
		{"a member", func(*state.Tables, *Local) {}, "egress 2379/TCP to 192.0.2.2/32|egress 2379/TCP to 2001:db8::2/128|" + wg2 + wg3 +
			"egress 7443/TCP to 192.0.2.2/32|egress 7443/TCP to 2001:db8::2/128|ingress 51871/UDP"},
		{"a server", func(ts *state.Tables, l *Local) {
			l.Server = true
			alter(ts, "east/h2", func(n *mesh.Node) { n.Server = false })
		}, wg2 + wg3 + "ingress 2379/TCP|ingress 51871/UDP|ingress 7443/TCP"},
		{"ports of peers' own", func(ts *state.Tables, l *Local) {
			l.Port, l.Control = 1024, nil
			alter(ts, "east/h2", func(n *mesh.Node) { n.Port = 53 })
		}, "egress 51871/UDP to 192.0.2.3/32|egress 51871/UDP to 2001:db8::3/128|egress 53/UDP to 192.0.2.2/32|egress 53/UDP to 2001:db8::2/128|ingress 1024/UDP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := directly(t, tt.change)
			var got []string
			for p, why := range d.Exemptions {
				got = append(got, p.String())
				if why == "" {
					t.Errorf("%s has no reason", p)
				}
			}
			slices.Sort(got)
			want := strings.Split(tt.want+dhcp, "|")
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("exemptions (-want +got):\n%s", diff)
			}
			checkUnled(t, d)
		})
	}
}

// checkUnled: what routing leaves out the datapath lets through, and it leaves
// out all of it but what WireGuard sends, which it knows by its own port.
func checkUnled(t *testing.T, d Desired) {
	t.Helper()
	var want []datapath.Pinhole
	for p := range d.Exemptions {
		if p.Direction != policy.Egress || p.Protocol != udp || p.Remote.Bits() == 0 {
			want = append(want, p)
		}
	}
	slices.SortFunc(want, datapath.Pinhole.Compare)
	if diff := cmp.Diff(want, d.Detour.Exempt, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("routing leaves out (-want +got):\n%s", diff)
	}
}
