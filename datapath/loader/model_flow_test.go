package loader

import (
	"net/netip"
	"time"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

// tracker is the model with a memory: flows and fragments, as bpf/README.md says.
type tracker struct {
	model
	revision uint32
	now      time.Duration
	flows    map[flowKey]*tracked
	parts    map[partKey]part
	met      meetings
	// replaced is called before a flow takes the place of another, if it is set.
	replaced func()
}

// meetings are how often what must not be missing from a test has come up.
type meetings struct {
	reasons                          map[bpfobj.PlexusDropReason]int
	known, again, moved, related, nd int
}

// flowKey is one for both directions of a flow.
type flowKey struct {
	remote, local netip.AddrPort
	protocol      uint8
	tunnel        bool
}

type tracked struct {
	judgement
	revision  uint32
	direction policy.Direction // of the first packet
	port      uint16           // that policy was asked about
	state     string           // of TCP and SCTP, as datapath.Flow has it
	replied   bool
	opened    bool    // so that a reset may turn out not to be believed
	open      bool    // the side that opened it has gone on after an answer
	finished  [2]bool // the side that opened the flow, the other one
	expires   time.Duration
	packets   [2]uint64 // in, out
	bytes     [2]uint64
	moved     bool // what a CPU had counted in the former place, and not yet added, is lost
}

// longAgo is when a flow has expired that has moved.
const longAgo = -24 * time.Hour

// partKey is what fragments of one packet share.
type partKey struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8
	tunnel   bool
}

// part is what the first fragment has said.
type part struct {
	sport, dport, port uint16
	protocol           uint8
	expires            time.Duration
}

// outlook is all that a program shows of a packet: the verdict, and the event, if
// it tells of one.
type outlook struct {
	judgement
	direction policy.Direction // of the flow
	reply     bool
	told      bool
}

// takes says what becomes of a frame that a program sees.
func (k *tracker) takes(frame []byte, d policy.Direction, tunnel bool) outlook {
	o := k.judged(frame, d, tunnel)
	if k.met.reasons == nil {
		k.met.reasons = map[bpfobj.PlexusDropReason]int{}
	}
	k.met.reasons[o.reason]++
	return o
}

func (k *tracker) judged(frame []byte, d policy.Direction, tunnel bool) outlook {
	s, reason, isIP := see(frame)
	dropped := outlook{judgement: judgement{reason: reason}, direction: d, told: true}
	switch {
	case !isIP:
		return outlook{}
	case reason != fine:
		return dropped
	case s.nd && !(tunnel && d == policy.Ingress):
		k.met.nd++
		return outlook{}
	}
	if !k.joins(&s, tunnel) {
		dropped.reason = bpfobj.PlexusDropReasonDROP_FRAGMENT
		return dropped
	}
	if s.refused && !s.later && k.related(s, d, tunnel) {
		k.met.related++
		return outlook{}
	}
	return k.belongs(s, d, tunnel)
}

// joins has a first fragment remembered, and gives a later one its ports.
func (k *tracker) joins(s *sight, tunnel bool) bool {
	key := partKey{s.src, s.dst, s.fragment, s.fragmentHolder, tunnel}
	switch {
	case s.first:
		k.parts[key] = part{s.sport, s.dport, s.port, s.protocol, k.now + 30*time.Second}
	case s.later:
		p, ok := k.parts[key]
		if !ok || p.expires < k.now {
			return false
		}
		s.sport, s.dport, s.port, s.protocol = p.sport, p.dport, p.port, p.protocol
	}
	return true
}

func (s sight) key(d policy.Direction, tunnel bool) flowKey {
	src, dst := netip.AddrPortFrom(s.src, s.sport), netip.AddrPortFrom(s.dst, s.dport)
	if d == policy.Egress {
		src, dst = dst, src
	}
	return flowKey{src, dst, s.protocol, tunnel}
}

func (key flowKey) question(flow, packet policy.Direction, port uint16) question {
	return question{key.remote.Addr(), key.local.Addr(), flow, packet, key.tunnel, key.protocol, port}
}

// related reports whether an ICMP error is about an allowed flow. Its sender
// must pass the guards that look at one end; the quoted packet went the other way.
func (k *tracker) related(s sight, d policy.Direction, tunnel bool) bool {
	sender := s.key(d, tunnel).remote.Addr()
	peer, _ := longest(k.peers, sender)
	if guardRemote(question{packet: d, tunnel: tunnel}, peer.Flags) != fine {
		return false
	}
	inner, reason := seeIP(s.quoted, s.src.Is6(), true)
	if reason != fine || inner.later || inner.src != s.dst {
		return false
	}
	key := inner.key(1-d, tunnel)
	f := k.flows[key]
	if f == nil || f.expires < k.now {
		return false
	}
	k.again(key, f, 1-d)
	return f.reason == fine
}

// again judges a known flow if the revision has moved on, and reports whether
// anything is new about it.
func (k *tracker) again(key flowKey, f *tracked, packet policy.Direction) bool {
	if f.revision == k.revision {
		return false
	}
	before := f.judgement
	k.met.again++
	f.judgement, f.revision = k.judge(key.question(f.direction, packet, f.port)), k.revision
	if f.reason != fine && before.reason == fine {
		f.expires = k.now + f.lifetime(key.protocol)
	}
	return f.judgement != before
}

// belongs finds the flow of a packet, or makes it one.
func (k *tracker) belongs(s sight, d policy.Direction, tunnel bool) outlook {
	key := s.key(d, tunnel)
	f := k.flows[key]
	if f != nil && f.covers(s, d, k.now) {
		told := k.again(key, f, d)
		k.met.known++
		if f.reason == fine {
			f.touch(s, d, k.now)
		}
		return outlook{f.judgement, f.direction, f.direction != d, told || f.reason != fine}
	}
	from := k.elsewhere(key, s)
	opened, asked := d, s.port
	if from != nil {
		opened, asked = from.direction, from.port
	}
	j := k.judge(key.question(opened, d, asked))
	switch {
	case j.reason != fine || f != nil && f.alive(k.now):
	case from != nil:
		k.met.moved++
		k.flows[key] = k.move(from, s, d, j)
	default:
		next := k.begin(s, d, j)
		if f != nil {
			next.open = f.open // it has the place of the other one
			k.replace()
		}
		k.flows[key] = next
	}
	return outlook{j, opened, opened != d, true}
}

func (k *tracker) replace() {
	if k.replaced != nil {
		k.replaced()
	}
}

// move returns a flow as the packet at hand leaves it in its new place. In the
// former one it is over.
func (k *tracker) move(from *tracked, s sight, d policy.Direction, j judgement) *tracked {
	moved := *from
	moved.judgement, moved.revision, moved.moved = j, k.revision, true
	moved.touch(s, d, k.now)
	from.expires = longAgo
	return &moved
}

// elsewhere returns the open flow of the same ends in the other class of devices:
// it has moved here, and keeps its direction. One that policy denies has not.
func (k *tracker) elsewhere(key flowKey, s sight) *tracked {
	key.tunnel = !key.tunnel
	f := k.flows[key]
	if f == nil || !f.open || s.opens() || f.expires < k.now || f.state == "closing" {
		return nil
	}
	switch f.reason {
	case fine, bpfobj.PlexusDropReasonDROP_NODE_PLAINTEXT, bpfobj.PlexusDropReasonDROP_TUNNEL_SOURCE, bpfobj.PlexusDropReasonDROP_TUNNEL_DESTINATION:
		return f
	}
	return nil
}

func (k *tracker) begin(s sight, d policy.Direction, j judgement) *tracked {
	f := &tracked{judgement: j, revision: k.revision, direction: d, port: s.port}
	if hasStates(s.protocol) {
		f.state = "established" // open before we saw it
		if s.flags&syn != 0 {
			f.state = "syn"
		}
		if s.flags&rst != 0 {
			f.state = "closing"
		}
	}
	f.finished[0] = s.flags&fin != 0
	f.expires = k.now + f.lifetime(s.protocol)
	f.count(s, d)
	return f
}

func hasStates(protocol uint8) bool { return protocol == tcp || protocol == sctp }

// opens reports whether a packet asks for a new connection.
func (s sight) opens() bool { return hasStates(s.protocol) && s.flags&(syn|ack) == syn }

func (f *tracked) alive(now time.Duration) bool {
	return f.expires >= now && f.reason == fine && f.state != "closing"
}

// covers reports whether a flow decides about a packet: one that opens a
// connection is new, unless it repeats what opened this one.
func (f *tracked) covers(s sight, d policy.Direction, now time.Duration) bool {
	if f.expires < now {
		return false
	}
	return !s.opens() || f.direction == d && f.alive(now)
}

func (f *tracked) lifetime(protocol uint8) time.Duration {
	switch {
	case f.state != "":
		return map[string]time.Duration{"syn": time.Minute, "established": 6 * time.Hour, "closing": 10 * time.Second}[f.state]
	case protocol == icmp4 || protocol == icmp6:
		return 30 * time.Second
	case f.replied:
		return 3 * time.Minute
	}
	return time.Minute
}

func (f *tracked) touch(s sight, d policy.Direction, now time.Duration) {
	reply := d != f.direction
	f.replied = f.replied || reply
	if f.state != "" {
		f.advance(s, reply)
	}
	if f.replied && !reply && (f.state == "" || f.state == "established") && s.protocol != icmp4 && s.protocol != icmp6 {
		f.open, f.opened = true, true
	}
	f.expires = now + f.lifetime(s.protocol)
	f.count(s, d)
}

func (f *tracked) count(s sight, d policy.Direction) {
	f.packets[d]++
	f.bytes[d] += s.length
}

// advance: a connection is open once the side that opened it acknowledges what
// the other answered, and over once it is reset or both have finished. A packet
// with ACK after that shows that a reset was not believed.
func (f *tracked) advance(s sight, reply bool) {
	if s.flags&fin != 0 {
		f.finished[side(reply)] = true
	}
	switch {
	case s.flags&rst != 0 || f.finished[0] && f.finished[1]:
		f.state = "closing"
	case f.state == "syn" && (reply || !f.replied || s.flags&syn != 0):
	case s.flags&ack != 0 && (f.state != "closing" || f.opened):
		f.state = "established"
	}
}

func side(reply bool) int {
	if reply {
		return 1
	}
	return 0
}
