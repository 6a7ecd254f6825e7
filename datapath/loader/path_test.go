package loader

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// line is one packet of a dialogue between a host and its peer.
type line struct {
	out   bool
	flags uint8
	data  int
}

// dialogues are opened by the host. Of the packets in the middle, those that
// change nothing take the short way, if they look as most do.
var dialogues = map[uint8][]line{
	tcp: {{true, syn, 0}, {false, syn | ack, 0}, {true, ack, 0}, {true, ack, 100}, {false, ack, 0}, {false, ack, 700}, {true, ack, 1}, {true, ack, 0},
		{false, ack, 300}, {true, fin | ack, 0}, {false, ack, 9}, {false, ack, 10}, {false, fin | ack, 0}, {true, ack, 0}},
	udp: {{true, 0, 20}, {true, 0, 21}, {false, 0, 300}, {false, 0, 301}, {true, 0, 22}, {true, 0, 23}, {false, 0, 302}, {true, 0, 24}, {false, 0, 303}},
}

// looks are ways to say the same that the short way leaves to the long one.
var looks = map[string]func(*packet){
	"as most do":         func(*packet) {},
	"with a VLAN tag":    func(p *packet) { p.vlan = 1 },
	"with two VLAN tags": func(p *packet) { p.vlan = 2 },
	"with options":       func(p *packet) { p.options, p.extensions = 8, []uint8{hopByHop} },
	"with long headers":  func(p *packet) { p.options, p.extensions = 40, []uint8{destinationOptions, routing, authentication} },
}

// told is what came of a dialogue. The flow's bytes are those of the data.
type told struct {
	Verdicts []uint32
	Flow     datapath.Flow
}

// TestEveryWayTellsTheSame has the same dialogues held in packets of every look,
// and in turns: verdicts, state and accounts are those of the plain ones.
func TestEveryWayTellsTheSame(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		for _, f := range families {
			for proto := range dialogues {
				for _, cut := range []int{0, 6} {
					plain := h.hold(proto, f.us, f.peer, cut, looks["as most do"])
					for name, look := range looks {
						if diff := cmp.Diff(plain, h.hold(proto, f.us, f.peer, cut, look), sameButRevision); diff != "" {
							t.Errorf("%s, protocol %d, cut at %d, %s (-plain +so):\n%s", f.name, proto, cut, name, diff)
						}
						turns := 0
						mixed := func(p *packet) {
							if turns++; turns%2 == 0 {
								look(p)
							}
						}
						if diff := cmp.Diff(plain, h.hold(proto, f.us, f.peer, cut, mixed), sameButRevision); diff != "" {
							t.Errorf("%s, protocol %d, cut at %d, in turns %s (-plain +so):\n%s", f.name, proto, cut, name, diff)
						}
					}
				}
			}
		}
	})
}

// sameButRevision compares what does not change from one dialogue to the next.
var sameButRevision = cmp.Options{
	cmpopts.IgnoreFields(datapath.Flow{}, "Revision"),
	cmpopts.EquateComparable(netip.AddrPort{}),
	cmp.Comparer(func(a, b time.Duration) bool { return lifetimeOf(a) == lifetimeOf(b) }),
}

// lifetimeOf returns which lifetime is left of, however slow the machine is.
func lifetimeOf(left time.Duration) time.Duration {
	for _, lifetime := range []time.Duration{10 * time.Second, 30 * time.Second, time.Minute, 3 * time.Minute, 6 * time.Hour} {
		if left <= lifetime {
			return lifetime
		}
	}
	return left
}

// hold holds a dialogue under a policy that allows it, and from a line on under
// one that does not, unless that is 0.
func (h *host) hold(proto uint8, us, peer string, cut int, look func(*packet)) told {
	h.t.Helper()
	h.forget()
	h.load(rules{port(0, policy.Egress, proto, 443): {Rule: 1}}.set())
	var out told
	var headers [2]uint64
	for i, l := range dialogues[proto] {
		if cut > 0 && i == cut {
			h.load(rules{all(0, policy.Ingress): {Rule: 2}}.set())
		}
		p := packet{src: us, dst: peer, proto: proto, sport: 1000, dport: 443}
		feed := h.toNetdev
		if !l.out {
			p, feed = p.reply(), h.fromNetdev
		}
		p.flags, p.payload = l.flags, make([]byte, l.data)
		look(&p)
		verdict := feed(p.frame())
		out.Verdicts = append(out.Verdicts, verdict)
		if verdict == pass {
			headers[side(l.out)] += uint64(len(p.ip()) - l.data)
		}
	}
	if cut == 0 {
		out.Flow = h.flow()
		out.Flow.RxBytes -= headers[0]
		out.Flow.TxBytes -= headers[1]
	}
	return out
}
