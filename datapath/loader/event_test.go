package loader

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// TestEventsReachTheReader follows an allowed and a dropped packet to the agent.
func TestEventsReachTheReader(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.peers(map[string]datapath.Peer{"192.0.2.9/32": {Identity: 300}})
		rev := h.load(rules{port(300, policy.Ingress, tcp, 22): {Rule: 7}}.set())
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: syn}
		h.fromNetdev(p.frame())
		p.dport = 23
		h.fromNetdev(p.frame())
		var got []datapath.Event
		err := h.maps.Events.Run(ctx, func(e datapath.Event) {
			if got = append(got, e); len(got) == 2 {
				stop()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		want := datapath.Event{
			Protocol: tcp, TCPFlags: syn, Remote: 300, Rule: 7, Revision: rev, Length: 40, Link: 1,
			Src: addrPort("192.0.2.9", 1000), Dst: addrPort("192.0.2.1", 22),
		}
		dropped := want
		dropped.Dst, dropped.Rule = addrPort("192.0.2.1", 23), 0
		dropped.Dropped, dropped.Reason, dropped.ReasonCode = true, "policy denied", 1
		ignore := cmpopts.IgnoreFields(datapath.Event{}, "Time")
		if diff := cmp.Diff([]datapath.Event{want, dropped}, got, ignore, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		for _, e := range got {
			if age := time.Since(e.Time); age < 0 || age > time.Minute {
				t.Errorf("event is %s old", age)
			}
		}
	})
}
