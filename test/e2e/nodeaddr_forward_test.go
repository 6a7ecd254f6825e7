package e2e

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
)

// TestNodeAddressesForwarded sends from behind web to db's node addresses, and the
// other way to ports that web publishes.
func TestNodeAddressesForwarded(t *testing.T) {
	m := newTrio(t)
	if r := command(t, m.web.Host, "", "sh", "-c", container); r.code != exitOK {
		t.Fatalf("make container: %s", r.stderr)
	}
	serve(t, m.db.Host, "443")
	launchInside(t, m.web.Host, "serve", "80")
	m.led(t)
	m.filterReverse(t, "1")
	m.watchNodes(t, func() {
		expect(t, m.db.Host, echoed, append(both(m.web.Addr4, m.web.Addr6, 8080), m.db.nodeServices(443)...)...)
		for range 10 { // enough of it for a watcher
			verdictsInside(t, m.web.Host, m.db.nodeServices(443), nil)
		}
	})
	t.Run("it comes from the host's mesh address", m.testMasqueraded)
	t.Run("what is not masqueraded is dropped here, with the reason", m.testUnmasqueraded)
}

// testMasqueraded reads what db has seen: the kernel takes the address of the
// interface that a packet leaves by, and that is the tunnel's.
func (m *trio) testMasqueraded(t *testing.T) {
	seen := map[netip.Addr]bool{}
	for _, f := range ask[[]api.FlowEntry](t, m.db, "bpf", "ct", "list") {
		local, remote := netip.MustParseAddrPort(f.Local), netip.MustParseAddrPort(f.Remote)
		if local.Port() == 443 && slices.Contains(m.db.nodeAddrs(), local.Addr()) {
			seen[remote.Addr()] = true
		}
	}
	if diff := cmp.Diff(map[netip.Addr]bool{m.web.mesh4: true, m.web.mesh6: true}, seen, equalAddrs); diff != "" {
		t.Errorf("sources that db has seen (-want +got):\n%s", diff)
	}
}

// testUnmasqueraded takes NAT away: db's WireGuard would drop such a packet
// without a word.
func (m *trio) testUnmasqueraded(t *testing.T) {
	m.web.must(t, "nft", "delete", "table", "inet", "published")
	m.watchNodes(t, func() {
		verdictsInside(t, m.web.Host, nil, m.db.nodeServices(443))
		m.talkABit(t)
	})
	var n uint64
	for _, c := range ask[[]api.CounterEntry](t, m.web, "bpf", "metrics", "list") {
		if c.Reason == "not our address in the tunnel" && c.Interface == "tunnel" && c.Direction == "egress" {
			n += c.Packets
		}
	}
	if n < 4 {
		t.Errorf("%d packets are counted as not ours; want one of each flow at least", n)
	}
}

// talkABit gives a watcher something to see.
func (m *trio) talkABit(t *testing.T) {
	t.Helper()
	for range 20 {
		verdicts(t, m.web.Host, map[string][]string{echoed: m.db.nodeServices(443)})
	}
}
