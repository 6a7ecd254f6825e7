package loader

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
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

// TestEventsCatchUp shows that who asks has every event of before, and need not
// wait until the ring is looked at anyway.
func TestEventsCatchUp(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{}.set())
		ctx, stop := context.WithTimeout(t.Context(), 8*time.Second) // 100 looks take 10
		defer stop()
		h.catchUp(ctx) // nobody reads yet
		var read atomic.Int64
		begun, ended := make(chan struct{}), make(chan error, 1)
		h.fromNetdev(syns(0).frame())
		go func() {
			var once sync.Once
			ended <- h.maps.Events.Run(ctx, func(datapath.Event) { read.Add(1); once.Do(func() { close(begun) }) })
		}()
		<-begun
		for n := range int64(100) {
			h.fromNetdev(syns(n + 1).frame())
			h.catchUp(ctx)
			if got := read.Load(); got != n+2 {
				t.Fatalf("%d events were read, want %d", got, n+2)
			}
		}
		var all sync.WaitGroup
		h.fromNetdev(syns(200).frame())
		for range 20 {
			all.Go(func() {
				h.catchUp(ctx)
				if got := read.Load(); got != 102 {
					t.Errorf("asked at once with others: %d events were read, want 102", got)
				}
			})
		}
		all.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		h.catchUp(t.Context()) // nobody reads any more
	})
}

func (h *host) catchUp(ctx context.Context) {
	h.t.Helper()
	if err := h.maps.Events.CatchUp(ctx); err != nil {
		h.t.Error(err)
	}
}

// syns returns the first packet of flow n.
func syns(n int64) packet {
	return packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: uint16(1000 + n), dport: 22, flags: syn}
}
