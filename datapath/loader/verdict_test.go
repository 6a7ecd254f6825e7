package loader

import (
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

func TestProgramsLoad(t *testing.T) {
	netnstest.Run(t, func() {
		d := open(t)
		for v, p := range d.programs {
			info, err := p.FromNetdev.Info()
			if err != nil {
				t.Fatal(err)
			}
			n, ok := info.VerifiedInstructions()
			t.Logf("%+v: %d verified instructions, %v", v, n, ok)
		}
	})
}

func TestBasicVerdicts(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.peers(map[string]datapath.Peer{"192.0.2.9/32": {Identity: 1000}, "2001:db8::9/128": {Identity: 1000}})
		h.load(rules{port(1000, policy.Ingress, tcp, 22): {Rule: 7}}.set())
		for _, p := range []packet{
			{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 40000, dport: 22, flags: syn},
			{src: "2001:db8::9", dst: "2001:db8::1", proto: tcp, sport: 40000, dport: 22, flags: syn},
		} {
			if got := h.fromNetdev(p.frame()); got != pass {
				t.Errorf("allowed flow: verdict %d", got)
			}
			if got := h.toNetdev(p.reply().frame()); got != pass {
				t.Errorf("reply: verdict %d", got)
			}
			p.dport = 23
			if got := h.fromNetdev(p.frame()); got != drop {
				t.Errorf("other port: verdict %d", got)
			}
		}
		for _, e := range h.drain() {
			t.Logf("%s:%d -> %s:%d %s id %d rule %d rev %d", e.Src.Netip(), bpfobj.NetworkOrder(e.Sport), e.Dst.Netip(), bpfobj.NetworkOrder(e.Dport),
				bpfobj.PlexusDropReason(e.Reason), e.Identity, e.Rule, e.Revision)
		}
	})
}
