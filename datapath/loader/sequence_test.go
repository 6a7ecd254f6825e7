package loader

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

// tape is what random bytes say to do; behind its end are zeroes.
type tape struct{ rest []byte }

func (p *tape) next() byte {
	if len(p.rest) == 0 {
		return 0
	}
	b := p.rest[0]
	p.rest = p.rest[1:]
	return b
}

func pickBy[T any](b byte, from []T) T { return from[int(b)%len(from)] }

// speakers are who speaks with whom, per family: remote sides and local ones.
var speakers = [2]struct{ remote, local []string }{
	{[]string{"192.0.2.9", "198.51.100.7", "203.0.113.5", "10.210.0.2", "192.0.2.10", "192.0.2.1", "224.0.0.251", "203.0.113.6"},
		[]string{"192.0.2.1", "10.210.0.1", "203.0.113.99"}},
	{[]string{"2001:db8::9", "2001:db8:2::7", "2001:db8:9::5", "fd00::2", "2001:db8::a", "2001:db8::1", "ff02::fb", "::ffff:192.0.2.9"},
		[]string{"2001:db8::1", "fd00::1", "2001:db8:9::99"}},
}

// The values that packets on a tape have.
var (
	tapeFlags  = []uint8{syn, syn | ack, ack, ack, ack, ack, ack, ack, ack, ack, fin | ack, rst | ack, rst, 0, fin, syn | fin, syn | rst}
	tapeChunks = []uint8{1, 2, 0, 0, 0, 3, 6, 14, 7}
	tapePorts  = []uint16{22, 1000, 53, 3868, 2022, 54}
	tapeAges   = []time.Duration{4 * time.Second, 12 * time.Second, 37 * time.Second, 97 * time.Second, 3 * time.Hour, 7 * time.Hour}
	tapeChains = [][]uint8{nil, {hopByHop}, {hopByHop, routing, authentication, destinationOptions}, {fragmentHeader}, {destinationOptions, fragmentHeader, destinationOptions}, make([]uint8, 9)}
)

// rulesets are the policies that tapes are played under, two of them each time.
func rulesets() [2][2]bpfmap.Ruleset {
	world := fuzzModel().rules
	return [2][2]bpfmap.Ruleset{{
		world,
		{Entries: rules{all(0, policy.Ingress): {Rule: 11}, all(0, policy.Egress): {Rule: 12}}},
	}, {
		{Entries: rules{all(0, policy.Egress): {Rule: 13}, port(300, policy.Ingress, tcp, 22): {Rule: 14, Deny: true}}, Prefixes: world.Prefixes},
		{Entries: rules{port(0, policy.Ingress, tcp, 22): {Rule: 15}, port(300, policy.Egress, udp, 53): {Rule: 16}, all(9, policy.Egress): {Rule: 17}}},
	}}
}

// prepare has one policy in each slot.
func (s *subject) prepare(both [2]bpfmap.Ruleset) {
	s.t.Helper()
	for _, r := range both {
		s.slots[s.load(r)%2] = r
	}
}

// turn puts the policy in the other slot in force, as the last step of a change
// of policy does. The steps before wait for the kernel, which tapes have no time for.
func (s *subject) turn() {
	s.t.Helper()
	s.follow()
	next := bpfobj.PlexusState{Revision: s.revision + 1}
	if err := s.objs.PlexusStateV1.Update(uint32(0), &next, ebpf.UpdateAny); err != nil {
		s.t.Fatal(err)
	}
	s.follow()
	s.rules = s.slots[s.revision%2]
}

// play does what a tape says, on one CPU.
func (s *subject) play(tape *tape) {
	s.t.Helper()
	err := onFirstCPU(func() error {
		s.steps(tape)
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// steps are packets of a few flows, and between them changes of policy, of peers
// and pinholes, and time.
func (s *subject) steps(tape *tape) {
	s.t.Helper()
	world := s.restore()
	who := [3]conversation{s.conversation(tape), s.conversation(tape), s.conversation(tape)}
	for range 60 {
		if len(tape.rest) == 0 || s.t.Failed() {
			break
		}
		if s.unsure() {
			return
		}
		switch op := tape.next() % 32; op {
		case 0:
			s.turn()
		case 1:
			s.rejudge()
		case 2:
			s.changePeer(tape.next())
		case 3:
			s.changePinhole(pickBy(tape.next(), world.pinholes))
		case 4:
			moving := &who[tape.next()%3]
			moving.tunnel ^= 2
			s.changePeer(moving.family | moving.tunnel<<1)
		case 5:
			s.wait(pickBy(tape.next(), tapeAges))
		default:
			s.packet(tape, who[op%3])
		}
	}
}

// restore brings the world back to what it was.
func (s *subject) restore() model {
	s.t.Helper()
	s.tracker.model = fuzzModel()
	if err := s.maps.IPCache.Apply(s.model.peers, nil); err != nil {
		s.t.Fatal(err)
	}
	if err := s.maps.Pinholes.Apply(s.pinholes, nil); err != nil {
		s.t.Fatal(err)
	}
	s.turn()
	s.renew()
	return s.tracker.model
}

// changePeer gives an address another identity or another place.
func (s *subject) changePeer(b byte) {
	s.t.Helper()
	addr := netip.MustParseAddr(speakers[b&1].remote[0])
	p := netip.PrefixFrom(addr, addr.BitLen())
	s.model.peers[p] = pickBy(b>>1, []datapath.Peer{
		{Identity: 300}, {Identity: 302}, {Identity: 300, Flags: datapath.PeerNode}, {Identity: 300, Flags: datapath.PeerMesh},
	})
	if err := s.maps.IPCache.Apply(map[netip.Prefix]datapath.Peer{p: s.model.peers[p]}, nil); err != nil {
		s.t.Fatal(err)
	}
	s.follow()
}

// changePinhole closes one that is there and opens one that is not.
func (s *subject) changePinhole(h datapath.Pinhole) {
	s.t.Helper()
	var open []datapath.Pinhole
	for _, other := range s.pinholes {
		if other != h {
			open = append(open, other)
		}
	}
	add, remove := []datapath.Pinhole(nil), []datapath.Pinhole{h}
	if len(open) == len(s.pinholes) {
		add, remove, open = remove, nil, append(open, h)
	}
	if err := s.maps.Pinholes.Apply(add, remove); err != nil {
		s.t.Fatal(err)
	}
	s.pinholes = open
	s.follow()
}

// wait lets time pass, by having everything expire sooner. CPUs remember for
// less than that, which a new revision brings about.
func (s *subject) wait(d time.Duration) {
	s.t.Helper()
	s.ageTables(d)
	s.rejudge()
	parts := map[bpfobj.PlexusFragKey]bpfobj.PlexusFragValue{}
	var key bpfobj.PlexusFragKey
	var value bpfobj.PlexusFragValue
	it := s.objs.PlexusFragV1.Iterate()
	for it.Next(&key, &value) {
		parts[key] = value
	}
	if it.Err() != nil {
		s.t.Fatal(it.Err())
	}
	for key, value := range parts {
		value.Expires -= min(value.Expires, uint64(d))
		if err := s.objs.PlexusFragV1.Update(&key, &value, ebpf.UpdateExist); err != nil {
			s.t.Fatal(err)
		}
	}
	s.waited += d
	s.now = s.waited + time.Since(s.born)
}

// unsure reports whether something expires just now, so that the real clock
// decides. A tape ends there.
func (s *subject) unsure() bool {
	for _, f := range s.flows {
		if d := f.expires - s.now; -3*time.Second < d && d < 3*time.Second {
			return true
		}
	}
	for _, p := range s.parts {
		if d := p.expires - s.now; -3*time.Second < d && d < 3*time.Second {
			return true
		}
	}
	return false
}

// packet feeds the next packet on a tape. Half of them are plain, and most belong
// to a conversation that goes on.
func (s *subject) packet(tape *tape, who conversation) {
	s.t.Helper()
	which, what, shape := tape.next(), tape.next(), tape.next()
	if shape < 128 {
		which = which&1 | who.tunnel
	}
	out := which&1 != 0
	p := s.part(who, what, out)
	if what>>4 == 9 { // an error about the same flow, from its far end or from a stranger
		p = refusal(s.part(who, tape.next(), !out), tape.next())
		if shape&0x40 != 0 && !out {
			p.src = pickBy(tape.next(), speakers[who.family].remote)
		}
	}
	if shape >= 64 {
		p.disguise(shape)
	}
	frame := p.frame()
	if m := tape.next(); m < 8 { // a byte that lies, or an end that is missing
		at := 12 + int(tape.next())%(len(frame)-12)
		frame[at] = tape.next()
		if m < 2 {
			frame = frame[:max(14, at)]
		}
	}
	s.agree(which, frame)
}

// disguise adds tags, options, extension headers, or makes it a fragment.
func (p *packet) disguise(shape byte) {
	p.vlan = []int{0, 0, 1, 2}[shape&3]
	p.options = []int{0, 0, 4, 40}[shape>>2&3]
	p.extensions = pickBy(shape>>4&7, tapeChains)
	switch shape & 15 {
	case 14:
		p.fragment.id, p.fragment.more, p.extensions = 7, true, []uint8{fragmentHeader}
	case 15:
		p.fragment.id, p.fragment.offset, p.extensions = 7, 64, []uint8{fragmentHeader}
	}
}

// conversation is a flow that packets on a tape belong to.
type conversation struct {
	family, tunnel byte
	remote, local  string
	remotePort     uint16
	localPort      uint16
	protocol       uint8
}

// conversation takes a flow from a tape, in which at least one port is new: what
// CPUs have counted of flows of an earlier life must find none here.
func (s *subject) conversation(tape *tape) conversation {
	a, b, c := tape.next(), tape.next(), tape.next()
	sides := speakers[a&1]
	who := conversation{
		family: a & 1, tunnel: a & 2, remote: pickBy(a>>2, sides.remote), local: pickBy(b, sides.local),
		remotePort: 10000 + s.lives, localPort: pickBy(b>>2, tapePorts), protocol: pickBy(c, []uint8{tcp, tcp, tcp, udp, udp, sctp, icmp4, 47}),
	}
	switch a >> 4 & 7 { // most are possible where they are
	case 0, 1, 2, 3:
		who.remote, who.local, who.tunnel = sides.remote[0], sides.local[0], 0
	case 4:
		who.remote, who.local, who.tunnel = sides.remote[3], sides.local[1], 2
	case 5:
		who.remote, who.local = sides.remote[4], sides.local[0]
	}
	if c&0x80 != 0 {
		who.remotePort, who.localPort = who.localPort, who.remotePort
	}
	if who.family == 1 && who.protocol == icmp4 {
		who.protocol = icmp6
	}
	return who
}

// part is one packet of a conversation, from either side.
func (s *subject) part(who conversation, what byte, out bool) packet {
	p := packet{src: who.remote, dst: who.local, sport: who.remotePort, dport: who.localPort, proto: who.protocol, payload: make([]byte, what>>6), id: 7}
	if out {
		p.src, p.dst, p.sport, p.dport = p.dst, p.src, p.dport, p.sport
	}
	kinds := []uint8{8, 0, 8, 0, 13, 13}
	if who.family == 1 {
		kinds = []uint8{128, 129, 128, 129, 143, 135}
		p.hops = []uint8{64, 255}[what>>5&1]
	}
	p.flags, p.chunk, p.icmp[0] = pickBy(what, tapeFlags), pickBy(what, tapeChunks), pickBy(what, kinds)
	return p
}

// refusal is an ICMP error about a packet, from where that was sent to.
func refusal(about packet, b byte) packet {
	inner := about.ip()
	p := packet{src: about.dst, dst: about.src, proto: icmp4, icmp: [2]uint8{pickBy(b, []uint8{3, 3, 11, 12, 4, 5})}}
	keep := 20 + int(b>>3)%16
	if about.v6() {
		p.proto, p.icmp[0] = icmp6, pickBy(b, []uint8{1, 2, 3, 4, 127, 137})
		keep += 20
	}
	p.payload = inner[:min(keep, len(inner))]
	return p
}

// FuzzSequence feeds packets of several flows over several revisions to all four
// programs. Accounts take long to read, and are left to TestSequences.
func FuzzSequence(f *testing.F) {
	s := newSubject(f)
	s.prepare(rulesets()[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		s.host.t = t
		s.play(&tape{b})
	})
}

func randomTape(r *rand.Rand) []byte {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestSequences plays random tapes, the same ones in every run.
func TestSequences(t *testing.T) {
	s, random := newSubject(t), rand.New(rand.NewPCG(5, 6))
	s.replaced = func() { nextJiffy(t) }
	for _, both := range rulesets() {
		s.prepare(both)
		for i := range 100 {
			b := randomTape(random)
			if s.play(&tape{b}); !s.unsure() {
				s.accounts()
			}
			if t.Failed() {
				t.Fatalf("tape %d: %x", i, b)
			}
		}
	}
	t.Logf("met %+v", s.met)
	for reason := range bpfobj.PlexusDropReasonDROP_REASONS {
		seldom := reason == bpfobj.PlexusDropReasonDROP_NO_POLICY || reason == bpfobj.PlexusDropReasonDROP_RATE_LIMIT
		if s.met.reasons[reason] == 0 && !seldom {
			t.Errorf("no packet was dropped as %s", reason)
		}
	}
	if s.met.known < 1000 || s.met.again < 100 || s.met.moved == 0 || s.met.related < 10 || s.met.nd == 0 {
		t.Errorf("met too little: %+v", s.met)
	}
}
