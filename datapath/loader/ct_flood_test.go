package loader

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// sources is how many a flood has, every other one of IPv6: more than flows that
// are opening can be known.
const sources = 90_000

// parley is a flow that both sides go on with. Policy lets its opener open it,
// and would let the other side open nothing.
type parley struct {
	name   string
	first  packet // of the opener
	opener bool   // whether that is this host
	busy   bool   // whether packets pass during the floods
}

// say feeds a packet of the opener, or of the other side.
func (d parley) say(h *host, opener bool, flags uint8) uint32 {
	p := d.first
	if !opener {
		p = p.reply()
	}
	p.flags = flags
	if opener == d.opener {
		return h.toNetdev(p.frame())
	}
	return h.fromNetdev(p.frame())
}

// begin opens the flow.
func (d parley) begin(h *host) {
	h.t.Helper()
	for i, flags := range []uint8{syn, syn | ack, ack} {
		if d.say(h, i != 1, flags) != pass {
			h.t.Fatalf("%s: packet %d was dropped", d.name, i)
		}
	}
}

func everyParley() (out []parley) {
	for _, f := range families {
		for i, proto := range []uint8{tcp, udp} {
			for j, busy := range []bool{false, true} {
				port := uint16(2000 + 10*i + j)
				name := fmt.Sprintf("%s, protocol %d, busy %v", f.name, proto, busy)
				out = append(out,
					parley{name + ", from outside", packet{src: f.peer, dst: f.us, proto: proto, sport: port, dport: 53}, false, busy},
					parley{name + ", of ours", packet{src: f.us, dst: f.peer, proto: proto, sport: port, dport: 443}, true, busy})
			}
		}
	}
	return out
}

func fenceForParleys() rules {
	return rules{
		port(0, policy.Ingress, tcp, 53): {Rule: 1}, port(0, policy.Ingress, udp, 53): {Rule: 1},
		port(0, policy.Egress, tcp, 443): {Rule: 2}, port(0, policy.Egress, udp, 443): {Rule: 2},
	}
}

// flood is a packet that comes from many, each of whom this host answers.
type flood struct {
	name         string
	proto, flags uint8
	answered     uint8 // flags of the answer
}

// frames are a packet of a flood, and its answer, of which from makes those of
// each source.
type frames struct {
	in, out             []byte
	source, destination int // where the address of the source begins in either
	ports               int // and the ports in both
}

func (f flood) frames() (out []frames) {
	for i, family := range families {
		p := packet{src: family.stranger, dst: family.us, proto: f.proto, dport: 53, flags: f.flags}
		answer := p.reply()
		answer.flags = f.answered
		at := [][3]int{{26, 30, 34}, {22, 38, 54}}[i]
		out = append(out, frames{p.frame(), answer.frame(), at[0], at[1], at[2]})
	}
	return out
}

// from makes both frames those of source i.
func (f frames) from(i int) {
	size := f.destination - f.source
	binary.BigEndian.PutUint32(f.in[f.source+size-4:], 10<<24|uint32(i))
	binary.BigEndian.PutUint32(f.out[f.destination+size-4:], 10<<24|uint32(i))
	binary.BigEndian.PutUint16(f.in[f.ports:], uint16(1024+i%60000))
	binary.BigEndian.PutUint16(f.out[f.ports+2:], uint16(1024+i%60000))
}

// rage feeds a flood, and calls between every few thousand packets. It ends after
// sources when between says so, and after several times as many at the latest: an
// LRU map does not evict in strict order.
func (h *host) rage(fl flood, between func() bool) {
	h.t.Helper()
	both := fl.frames()
	for i := range 4 * sources {
		f := both[i%len(both)]
		f.from(i)
		if h.fromNetdev(f.in) != pass || h.toNetdev(f.out) != pass {
			h.t.Fatalf("%s: packet %d or its answer was dropped: this flood would be none", fl.name, i)
		}
		if i%4096 == 0 && between() && i > sources {
			return
		}
	}
}

// TestFloodsLeaveOpenFlows floods a host that lets everybody open connections. A
// flow that is not open yet is forgotten, which shows that the floods are large
// enough; with one table that evicts what was used least recently, as the
// programs had before, that was the end of every idle one.
func TestFloodsLeaveOpenFlows(t *testing.T) {
	for _, fl := range []flood{
		{"first packets", tcp, syn, syn | ack}, {"acknowledgements", tcp, ack, rst}, {"datagrams", udp, 0, 0},
	} {
		t.Run(fl.name, func(t *testing.T) {
			netnstest.Run(t, func() { floodHost(newHost(t), fl) })
		})
	}
}

func floodHost(h *host, fl flood) {
	h.t.Helper()
	h.load(fenceForParleys().set())
	all := everyParley()
	for _, d := range all {
		d.begin(h)
	}
	unanswered := packet{src: families[0].peer, dst: families[0].us, proto: tcp, sport: 9, dport: 53, flags: syn}
	if h.fromNetdev(unanswered.frame()) != pass || len(h.known(9)) != 1 {
		h.t.Fatal("a first packet did not become known")
	}
	h.rage(fl, func() bool {
		for _, d := range all {
			if d.busy && (d.say(h, true, ack) != pass || d.say(h, false, ack) != pass) {
				h.t.Fatalf("%s was cut in the flood", d.name)
			}
		}
		return len(h.known(9)) == 0
	})
	if len(h.known(9)) != 0 {
		h.t.Error("the flood has not made an unanswered flow forgotten: it was too small")
	}
	h.checkParleys(all)
	late := parley{name: "a connection after the flood", first: packet{src: families[1].peer, dst: families[1].us, proto: tcp, sport: 3000, dport: 53}}
	late.begin(h)
	h.checkParleys(append(all, late))
}

// checkParleys has the other side of every flow speak first, which policy would
// not let it open.
func (h *host) checkParleys(all []parley) {
	h.t.Helper()
	swept, err := h.maps.Flows.Sweep(func() error { return nil })
	if err != nil || swept.Open.Used != len(all) {
		h.t.Errorf("%d flows are open, %v; want the %d of both sides' making", swept.Open.Used, err, len(all))
	}
	if n, err := h.maps.Counters.TurnedAway(); n != 0 || err != nil {
		h.t.Errorf("%d packets found no room for their flow, %v", n, err)
	}
	h.forgetCached()
	for _, d := range all {
		if d.say(h, false, ack) != pass {
			h.t.Errorf("%s: the other side is cut off", d.name)
		}
		stranger := d
		if stranger.first.sport += 20000; stranger.say(h, false, ack) != drop {
			h.t.Errorf("%s: an unknown flow of this kind passes: it shows nothing that the known one does", d.name)
		}
	}
}

// known returns the flows with a port of the other side that are not over.
func (h *host) known(port uint16) (out []datapath.Flow) {
	h.t.Helper()
	flows, err := h.maps.Flows.List()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range flows {
		if f.Remote.Port() == port && f.Expires >= 0 {
			out = append(out, f)
		}
	}
	return out
}
