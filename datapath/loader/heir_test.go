package loader

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// tally is how much a flow has counted.
type tally struct{ rx, tx uint64 }

func tallyOf(f datapath.Flow) tally { return tally{f.RxPackets, f.TxPackets} }

// TestResetMovesItsFlow has the packet that moves a connection end it: it is known
// in its new place alone, as one that is over, with all of its packets.
func TestResetMovesItsFlow(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Ingress): {Rule: 1}, all(0, policy.Egress): {Rule: 1}}.set())
		for _, a := range members {
			h.forget()
			h.meet(a, false)
			p := packet{src: a.us, dst: a.node, proto: tcp, sport: 1000, dport: 22, flags: syn}
			verdicts := []uint32{h.toNetdev(p.frame()), h.fromNetdev(p.reply().frame())}
			p.flags = ack
			verdicts = append(verdicts, h.toNetdev(p.frame()))
			h.meet(a, true)
			p.flags = rst | ack
			verdicts = append(verdicts, h.toTunnel(p.frame()))
			if diff := cmp.Diff([]uint32{pass, pass, pass, pass}, verdicts); diff != "" {
				t.Fatalf("%s: verdicts (-want +got):\n%s", a.name, diff)
			}
			f := h.flow()
			near(t, f.Expires, 10*time.Second)
			if !f.Tunnel || f.State != "closing" || tallyOf(f) != (tally{1, 3}) {
				t.Errorf("%s: a reset moved %+v; want a closing flow of 1 packet in and 3 out, in the tunnel", a.name, f)
			}
		}
	})
}

// TestHeirCountsItsOwn gives a flow the key of one whose packets CPUs have counted,
// and not yet added to it.
func TestHeirCountsItsOwn(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Egress): {Rule: 1}}.set())
		for _, f := range families {
			h.forget()
			h.converse(f.us, f.peer, 10)
			if got := tallyOf(h.flow()); got != (tally{10, 10}) {
				t.Fatalf("%s: the flow counts %+v, want 10 each way", f.name, got)
			}
			h.ageTables(time.Hour)
			nextJiffy(t)
			if _, err := h.maps.Policy.Rejudge(); err != nil { // ends what CPUs know
				t.Fatal(err)
			}
			query := packet{src: f.us, dst: f.peer, proto: udp, sport: 1000, dport: 53}
			if h.toNetdev(query.frame()) != pass {
				t.Fatalf("%s: the next flow was dropped", f.name)
			}
			if got := tallyOf(h.flow()); got != (tally{0, 1}) {
				t.Errorf("%s: a flow of one packet out counts %+v", f.name, got)
			}
		}
	})
}

// TestHeirIsAnswered gives a flow the place of an open one: its first answer is
// seen, whatever this CPU knows already.
func TestHeirIsAnswered(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.load(rules{all(0, policy.Egress): {Rule: 1}}.set())
		for _, f := range families {
			h.forget()
			h.converse(f.us, f.peer, 3)
			h.age(time.Hour)
			query := packet{src: f.us, dst: f.peer, proto: udp, sport: 1000, dport: 53}
			for _, verdict := range []uint32{
				h.toNetdev(query.frame()), h.toNetdev(query.frame()), h.fromNetdev(query.reply().frame()), h.toNetdev(query.frame()),
			} {
				if verdict != pass {
					t.Errorf("%s: verdict %d", f.name, verdict)
				}
			}
			near(t, h.flow().Expires, 3*time.Minute)
		}
	})
}

// converse feeds queries of this host, each with its answer.
func (h *host) converse(us, peer string, times int) {
	h.t.Helper()
	query := packet{src: us, dst: peer, proto: udp, sport: 1000, dport: 53}
	for range times {
		if h.toNetdev(query.frame()) != pass || h.fromNetdev(query.reply().frame()) != pass {
			h.t.Fatal("a query or its answer was dropped")
		}
	}
}
