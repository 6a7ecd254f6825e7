package e2e

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestBefore joins a host that is busy already and lets nobody in: what the host
// opened itself goes on, whichever side sends next, and what others opened is
// cut like any flow that policy denies.
func TestBefore(t *testing.T) {
	hosts, stranger, l := newHosts(t, 2)
	m := &trio{lab: l, server: hosts[0], web: hosts[0], db: hosts[1], stranger: stranger}
	m.server.init(t)
	serve(t, stranger, "6000")
	serve(t, m.db.Host, "5432")
	var own, others []*program
	for _, a := range []netip.Addr{stranger.Addr4, stranger.Addr6} {
		own = append(own, stream(t, m.db.Host, target("tcp", a, 6000)), stream(t, m.db.Host, target("udp", a, 6000)))
	}
	for _, a := range []netip.Addr{m.db.Addr4, m.db.Addr6} {
		others = append(others, stream(t, stranger, target("tcp", a, 5432)))
	}
	m.db.join(t, m.server.token(t, "--label", "app=db"))
	m.apply(t, clusterwide("closed", "db", `  ingress: [{}]`))
	verdicts(t, stranger, map[string][]string{silence: {target("tcp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5432)}})
	for i, s := range own {
		s.finish(t).unharmed(t, fmt.Sprintf("flow %d that the host opened", i))
	}
	for _, s := range others {
		s.stdin.Close()
	}
	for i, s := range others {
		if r := s.finish(t); len(r.Missing) == 0 {
			t.Errorf("flow %d that others opened went on: %+v", i, r)
		}
	}
}
