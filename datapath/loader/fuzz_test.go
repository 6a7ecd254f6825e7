package loader

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// fuzzModel is the world that random packets meet.
func fuzzModel() model {
	const in, out, peer = policy.Ingress, policy.Egress, mesh.Identity(300)
	return model{
		peers: map[netip.Prefix]datapath.Peer{
			netip.MustParsePrefix("192.0.2.9/32"):    {Identity: peer},
			netip.MustParsePrefix("192.0.2.1/32"):    {Identity: 301, Flags: datapath.PeerLocal},
			netip.MustParsePrefix("10.210.0.0/16"):   {Identity: peer, Flags: datapath.PeerMesh},
			netip.MustParsePrefix("10.210.0.1/32"):   {Identity: 301, Flags: datapath.PeerMesh | datapath.PeerLocal},
			netip.MustParsePrefix("2001:db8::9/128"): {Identity: peer},
			netip.MustParsePrefix("2001:db8::1/128"): {Identity: 301, Flags: datapath.PeerLocal},
			netip.MustParsePrefix("fd00::/64"):       {Identity: peer, Flags: datapath.PeerMesh},
			netip.MustParsePrefix("192.0.2.10/32"):   {Identity: 303, Flags: datapath.PeerNode},
			netip.MustParsePrefix("2001:db8::a/128"): {Identity: 303, Flags: datapath.PeerNode},
			netip.MustParsePrefix("fd00::1/128"):     {Identity: 301, Flags: datapath.PeerMesh | datapath.PeerLocal},
		},
		rules: bpfmap.Ruleset{
			Entries: map[policy.Key]policy.Entry{
				port(peer, in, tcp, 22):                        {Rule: 1},
				{Identity: peer, Direction: in, Protocol: udp}: {Rule: 2},
				port(0, in, udp, 53):                           {Rule: 3, Deny: true},
				{Identity: 0, Direction: in, Protocol: icmp4, Port: 8 << 8, PortBits: 8}: {Rule: 4},
				all(0, out):              {Rule: 5},
				port(peer, out, tcp, 22): {Rule: 6, Deny: true},
				all(1<<24|1, in):         {Rule: 7},
			},
			Prefixes: map[netip.Prefix]mesh.Identity{
				netip.MustParsePrefix("198.51.100.0/24"): 1<<24 | 1, netip.MustParsePrefix("2001:db8:2::/48"): 1<<24 | 1,
			},
		},
		pinholes: []datapath.Pinhole{
			{Direction: in, Protocol: sctp, Port: 3868},
			{Direction: in, Protocol: icmp6, Port: 143 << 8},
			{Direction: in, Protocol: tcp, Port: 2022, Remote: netip.MustParsePrefix("192.0.2.0/24")},
			{Direction: in, Protocol: tcp, Port: 2022, Remote: netip.MustParsePrefix("198.51.100.7/32")},
			{Direction: in, Protocol: tcp, Port: 2022, Remote: netip.MustParsePrefix("2001:db8:2::/48")},
			{Direction: in, Protocol: udp, Port: 53, Remote: netip.MustParsePrefix("0.0.0.0/0")},
			{Direction: out, Protocol: tcp, Port: 22, Remote: netip.MustParsePrefix("192.0.2.8/29")},
		},
		exemptions: []datapath.Pinhole{
			{Direction: in, Protocol: tcp, Port: 22, Remote: netip.MustParsePrefix("192.0.2.10/32")},
			{Direction: out, Protocol: udp, Port: 53},
		},
	}
}

// seeds are the packets that random ones start from.
func seeds() [][]byte {
	var out [][]byte
	for _, p := range []packet{
		{proto: tcp, sport: 1000, dport: 22, flags: syn}, {proto: udp, sport: 9, dport: 53}, {proto: udp, sport: 9, dport: 54},
		{proto: icmp4, icmp: [2]uint8{8}}, {proto: icmp6, hops: 255, icmp: [2]uint8{135}}, {proto: icmp6, icmp: [2]uint8{143}},
		{proto: sctp, dport: 3868, chunk: 1}, {proto: tcp, sport: 9, dport: 2022, flags: syn}, {proto: 47}, {proto: udp, dport: 9, vlan: 2, options: 8},
		{proto: tcp, dport: 22, flags: ack, extensions: []uint8{hopByHop, routing, authentication, destinationOptions}},
		{proto: udp, dport: 9, extensions: []uint8{fragmentHeader}, fragment: fragment{id: 5, more: true}},
		{proto: udp, dport: 9, extensions: []uint8{fragmentHeader}, fragment: fragment{id: 5, offset: 64}},
		{proto: icmp4, icmp: [2]uint8{3, 4}, payload: packet{src: "192.0.2.1", dst: "192.0.2.9", proto: udp, dport: 9}.ip()},
		{proto: icmp6, icmp: [2]uint8{2}, payload: packet{src: "2001:db8::1", dst: "2001:db8::9", proto: tcp, dport: 9}.ip()},
	} {
		for _, pair := range [][2]string{
			{"192.0.2.9", "192.0.2.1"}, {"10.210.0.2", "10.210.0.1"}, {"198.51.100.7", "192.0.2.1"},
			{"2001:db8::9", "2001:db8::1"}, {"fd00::2", "fd00::1"}, {"2001:db8:2::7", "2001:db8::1"},
		} {
			p.src, p.dst = pair[0], pair[1]
			out = append(out, p.frame())
		}
	}
	return out
}

// subject is a loaded datapath and the model of it.
type subject struct {
	*host
	*tracker
	slots  [2]bpfmap.Ruleset // what is loaded in both
	lives  uint16            // how often it was renewed
	born   time.Time         // of the last time
	waited time.Duration     // since, beside real time
}

// newSubject loads in a namespace of its own, and outlives it.
func newSubject(t testing.TB) *subject {
	t.Helper()
	var s *subject
	netnstest.Run(t, func() {
		s = &subject{host: newHost(t), tracker: &tracker{model: fuzzModel()}}
		if err := s.maps.IPCache.Apply(s.model.peers, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.maps.Pinholes.Apply(s.pinholes, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.maps.Exemptions.Apply(s.exemptions, nil); err != nil {
			t.Fatal(err)
		}
		s.load(s.rules)
		s.renew()
	})
	return s
}

// renew forgets every flow and fragment, here and there. A new revision ends what
// CPUs know by themselves.
func (s *subject) renew() {
	s.t.Helper()
	s.forgetTables()
	s.rejudge()
	s.drain()
	s.flows, s.parts = map[flowKey]*tracked{}, map[partKey]part{}
	s.born, s.waited = time.Now(), 0
	s.lives++
}

func (s *subject) rejudge() {
	s.t.Helper()
	if _, err := s.maps.Policy.Rejudge(); err != nil {
		s.t.Fatal(err)
	}
	s.follow()
}

// follow takes the revision over, which the maps count as they like.
func (s *subject) follow() {
	s.t.Helper()
	rev, err := s.maps.Policy.Revision()
	if err != nil {
		s.t.Fatal(err)
	}
	s.revision = rev
}

// agree feeds a frame to the model and to a program. It reports false if the
// kernel refuses to feed that frame to any program.
func (s *subject) agree(which uint8, frame []byte) bool {
	d, tunnel := policy.Direction(which&1), which&2 != 0
	p := s.programs[ethernet]
	prog := [4]*ebpf.Program{p.FromNetdev, p.ToNetdev, p.FromTunnel, p.ToTunnel}[which&3]
	s.drain()
	s.now = s.waited + time.Since(s.born)
	want, wantVerdict := s.takes(frame, d, tunnel), pass
	verdict, err := prog.Run(&ebpf.RunOptions{Data: frame})
	if errors.Is(err, unix.EINVAL) {
		return false
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if verdict == lose && d == policy.Egress {
		verdict = drop
	}
	if want.reason != fine {
		wantVerdict = drop
	}
	var got, told []outlook
	for _, e := range s.drain() {
		j := judgement{bpfobj.PlexusDropReason(e.Reason), mesh.Identity(e.Identity), policy.RuleID(e.Rule)}
		got = append(got, outlook{j, policy.Direction(e.Direction), e.Reply != 0, true})
	}
	if want.told {
		told = append(told, want)
	}
	if !slices.Equal(told, got) || verdict != wantVerdict {
		diff := cmp.Diff(told, got, cmp.AllowUnexported(outlook{}, judgement{}))
		s.t.Errorf("%s, tunnel %v: verdict %d, the model says %d (%s); events (-model +program):\n%s%x", d, tunnel, verdict, wantVerdict, want.reason, diff, frame)
	}
	return true
}

// FuzzVerdict feeds single frames, each of which meets no known flow.
func FuzzVerdict(f *testing.F) {
	s := newSubject(f)
	for i, frame := range seeds() {
		f.Add(uint8(i), frame)
	}
	f.Fuzz(func(t *testing.T, which uint8, frame []byte) {
		s.host.t = t
		s.renew()
		if len(frame) < 14 || len(frame) > 1500 || !s.agree(which, frame) {
			t.Skip("the kernel feeds no such frame to a program")
		}
	})
}

// TestModelAgrees feeds packets with some bytes changed and some cut, the same
// ones in every run. What they leave behind meets the next ones.
func TestModelAgrees(t *testing.T) {
	s, random, fed := newSubject(t), rand.New(rand.NewPCG(1, 2)), 0
	const rounds = 8_000
	all := seeds()
	for i := range rounds {
		if i%100 == 0 {
			s.renew()
		}
		frame := append([]byte(nil), all[random.IntN(len(all))]...)
		for range random.IntN(4) {
			frame[12+random.IntN(len(frame)-12)] = byte(random.Uint32())
		}
		if random.IntN(4) == 0 {
			frame = frame[:14+random.IntN(len(frame)-13)]
		}
		if s.agree(uint8(random.Uint32()), frame) {
			fed++
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if fed < rounds/2 {
		t.Errorf("%d of %d packets could be fed", fed, rounds)
	}
	t.Logf("%d of %d packets fed", fed, rounds)
}
