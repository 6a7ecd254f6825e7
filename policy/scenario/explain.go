package scenario

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/policy"
)

// Question asks what policy says to a new flow.
type Question struct {
	From, To Party
	Flow     Flow
	Skip     [2]bool // by Direction: not to be judged
	Staged   bool    // answer as if staged rules had effect
}

// Verdict is that of a whole flow.
type Verdict string

// The verdicts.
const (
	Allow Verdict = "allow"
	Deny  Verdict = "deny"
	Mixed Verdict = "mixed" // a party's labels mean several, and they are not judged alike
)

func verdictOf(allowed bool) Verdict {
	if allowed {
		return Allow
	}
	return Deny
}

// Answer is what policy says to a flow.
type Answer struct {
	Verdict    Verdict
	Rule       policy.RuleRef // that decided: of a denied flow where it is denied first, else where it arrives; may be zero
	Judgements []Judgement    // where the flow begins, then where it ends
	Notes      []string       // what else a person should know
}

// Judgement is what one host says to a flow.
type Judgement struct {
	Direction  policy.Direction
	Host, Peer string // names, addresses or labels
	Verdict    Verdict
	Rule       policy.RuleRef // that decided; may be zero
	Policy     *policy.Policy // that has the rule; nil if there is none
	Why        string

	Description string // of the rule
	Staged      *Staged

	partly bool // denied, but for some addresses of the peer that a pinhole is about
}

// Staged is what staged rules would change.
type Staged struct {
	Verdict Verdict
	Rule    policy.RuleRef
}

// Explain answers questions about m under policies. Each host is compiled once,
// however many questions are about it.
func Explain(policies []policy.Policy, m Mesh, questions ...Question) ([]Answer, error) {
	e := newEvaluation(policies, m)
	for _, q := range questions {
		if err := e.enter(q); err != nil {
			return nil, err
		}
	}
	e.compile()
	out := make([]Answer, len(e.asked))
	for i, a := range e.asked {
		out[i] = e.answer(a)
	}
	return out, nil
}

// evaluation answers questions together.
type evaluation struct {
	policies []policy.Policy
	mesh     Mesh
	known    directory
	asked    []asked
	courts   []*court
	byJudge  map[string]*court
}

// asked is a question with its parties found.
type asked struct {
	Question
	from, to []side
	flow     []Flow // by to: with the number of a named port
}

// court is where one subject judges.
type court struct {
	subject  policy.Subject
	policies []policy.Policy
	local    bool // whether the host's own files are among policies
	verdicts policy.Verdicts
	found    *postures // nil until asked
}

func newEvaluation(policies []policy.Policy, m Mesh) *evaluation {
	return &evaluation{policies: policies, mesh: m, known: newDirectory(m), byJudge: make(map[string]*court)}
}

func (e *evaluation) enter(q Question) (err error) {
	a := asked{Question: q}
	if a.from, err = e.known.sides(q.From); err != nil {
		return fmt.Errorf("from: %w", err)
	}
	if a.to, err = e.known.sides(q.To); err != nil {
		return fmt.Errorf("to: %w", err)
	}
	for _, to := range a.to {
		f, err := q.Flow.at(to)
		if err != nil {
			return err
		}
		a.flow = append(a.flow, f)
	}
	for _, s := range slices.Concat(a.from, a.to) {
		if s.judges {
			e.court(s)
		}
	}
	e.asked = append(e.asked, a)
	return nil
}

// court returns where s judges.
func (e *evaluation) court(s side) *court {
	key := fmt.Sprint(s.identity, s.ports)
	if s.host != nil && len(s.host.Policies) > 0 {
		key = "host " + s.host.Name
	}
	c, known := e.byJudge[key]
	if !known {
		c = &court{subject: s.subject(e.mesh), policies: e.policies}
		if s.host != nil && len(s.host.Policies) > 0 {
			c.policies, c.local = slices.Concat(e.policies, s.host.Policies), true
		}
		e.byJudge[key], e.courts = c, append(e.courts, c)
	}
	return c
}

// compile compiles for all judges, together those with the same policies.
func (e *evaluation) compile() {
	var subjects []policy.Subject
	var shared []*court
	for _, c := range e.courts {
		if c.local {
			c.verdicts = policy.Compile(c.policies, c.subject, e.mesh.World)
			continue
		}
		subjects, shared = append(subjects, c.subject), append(shared, c)
	}
	for i, v := range policy.CompileAll(e.policies, subjects, e.mesh.World) {
		shared[i].verdicts = v
	}
}

func (e *evaluation) answer(a asked) Answer {
	var out Answer
	allowed, denied := 0, 0
	for _, from := range a.from {
		for i, to := range a.to {
			js, note := e.pair(a, from, to, a.flow[i])
			out.Judgements = append(out.Judgements, js...)
			out.note(append(e.unknown(js), note)...)
			if slices.ContainsFunc(js, func(j Judgement) bool { return j.Verdict == Deny }) {
				denied++
			}
			if !slices.ContainsFunc(js, func(j Judgement) bool { return j.Verdict == Deny && !j.partly }) {
				allowed++
			}
		}
	}
	switch {
	case denied == 0:
		out.Verdict = Allow
	case allowed == 0:
		out.Verdict = Deny
	default:
		out.Verdict = Mixed
	}
	out.Rule = decisive(out)
	if a.Flow.neighbourDiscovery() {
		out.note("neighbour discovery on the link passes before any policy is asked")
	}
	return out
}

// note adds notes that are not there yet.
func (a *Answer) note(notes ...string) {
	for _, n := range notes {
		if n != "" && !slices.Contains(a.Notes, n) {
			a.Notes = append(a.Notes, n)
		}
	}
}

// unknown says where a flow that policy denies might pass all the same.
func (e *evaluation) unknown(js []Judgement) []string {
	var out []string
	for _, j := range js {
		if h := e.known.byName[j.Host]; h != nil && h.Pinholes == nil && j.Verdict == Deny {
			out = append(out, fmt.Sprintf("what passes on %s whatever policy says is known there alone: plexus policy failsafe on it lists that", h.Name))
		}
	}
	return out
}

func decisive(a Answer) policy.RuleRef {
	var rule policy.RuleRef
	for _, j := range a.Judgements {
		switch {
		case a.Verdict == Deny && j.Verdict == Deny:
			return j.Rule
		case a.Verdict == Allow && j.Rule != policy.RuleRef{}:
			rule = j.Rule
		}
	}
	return rule
}

// pair judges a flow from one to the other.
func (e *evaluation) pair(a asked, from, to side, f Flow) (js []Judgement, note string) {
	if from.host != nil && from.host == to.host {
		return nil, fmt.Sprintf("what %s sends to itself never leaves it: nothing judges it", from.host.Name)
	}
	if from.judges && !a.Skip[policy.Egress] {
		js = append(js, e.judge(a, from, to, policy.Egress, f))
	}
	if to.judges && !a.Skip[policy.Ingress] {
		js = append(js, e.judge(a, to, from, policy.Ingress, f))
	}
	if len(js) == 0 {
		note = fmt.Sprintf("no host of the mesh judges a flow from %s to %s", from.name, to.name)
	}
	return js, note
}

func (e *evaluation) judge(a asked, host, peer side, dir policy.Direction, f Flow) Judgement {
	c := e.court(host)
	j := Judgement{Direction: dir, Host: host.as, Peer: peer.name}
	pass, always := bypass(host, peer, dir, f)
	if always {
		j.Verdict, j.Why = Allow, pass
		return j
	}
	v := c.verdicts
	if a.Staged && v.Staged != nil {
		v = *v.Staged
	}
	is := v.Judge(policyFlow(v, peer, dir, f))
	j.Verdict, j.Rule = verdictOf(is.Allowed), is.Ref
	j.Policy, j.Description = ruleOf(c.policies, is.Ref)
	j.Why = c.why(host.as, dir, is, a.Staged)
	if j.partly = pass != "" && !is.Allowed; j.partly {
		j.Why += "; but " + pass
	}
	if v.Staged != nil {
		would := v.Staged.Judge(policyFlow(*v.Staged, peer, dir, f))
		if would.Allowed != is.Allowed || would.Ref != is.Ref {
			j.Staged = &Staged{verdictOf(would.Allowed), would.Ref}
		}
	}
	return j
}

func policyFlow(v policy.Verdicts, peer side, dir policy.Direction, f Flow) policy.Flow {
	id := peer.identity
	if id == identity.Unknown && len(peer.addrs) > 0 {
		id = v.Identify(peer.addrs[0])
	}
	return policy.Flow{Peer: id, Direction: dir, Protocol: f.Protocol, Port: f.Port}
}

// bypass says why host asks no policy about a flow, or "", and whether that is so
// for every address that peer may have in it.
func bypass(host, peer side, dir policy.Direction, f Flow) (why string, always bool) {
	h := host.host
	if h == nil {
		return "", false
	}
	if h.Disarmed {
		return fmt.Sprintf("policy is suspended on %s (plexus disarm): everything passes", h.Name), true
	}
	addrs := peer.addrs
	if len(addrs) == 0 {
		addrs = []netip.Addr{{}}
	}
	always = true
	for _, a := range addrs {
		text := h.pinholeFor(dir, f, a)
		always = always && text != ""
		why = cmp.Or(why, text)
	}
	return why, always
}

// pinholeFor describes a pinhole of h that lets f with remote pass, or returns "".
func (h *Host) pinholeFor(dir policy.Direction, f Flow, remote netip.Addr) string {
	var found []string
	for p, why := range h.Pinholes {
		if p.Passes(dir, f.Protocol, f.Port, remote) {
			found = append(found, pinholeText(p, why))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.Min(found) // always the same one
}

func pinholeText(p datapath.Pinhole, why string) string {
	from := ""
	if p.Remote.IsValid() {
		from = " (" + p.Remote.String() + ")"
	}
	return fmt.Sprintf("pinhole: %s%s; it passes whatever policy says", why, from)
}
