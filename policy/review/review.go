package review

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Options say how strict a review is.
type Options struct {
	// AllowEmpty makes it a warning, not an error, that a policy selects no host.
	AllowEmpty bool
}

// Severities of a Finding. An error refuses the change.
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)

// Codes of findings: stable, for machines.
const (
	CodeSelectsNobody  = "selects-nobody"        // a rule is about no host
	CodeShadowed       = "shadowed"              // a rule allows only what another denies
	CodeNobodyListens  = "nobody-listens"        // no program waits at a port that is allowed
	CodeNobodyCarries  = "peer-nobody"           // a selector of peers means nobody
	CodeUndeclaredPort = "named-port-undeclared" // no host declares a port under the name
	CodeNoGroup        = "cidr-group-missing"    // a CIDR group does not exist
	CodeOverflow       = "policy-too-large"      // the policy map of a host would not hold it
	CodeStaged         = "staged"                // a rule has no effect yet
)

// Finding is something in a policy that is most often a mistake.
type Finding struct {
	Severity string // SeverityError or SeverityWarning
	Code     string
	Policy   string // ID; "" where it is about all policies of a host
	File     string // as given to policy.Parse
	Line     int    // in File, from 1; 0 for none
	Path     string // of the field, for example "spec.ingress[0]"
	Text     string // what is wrong and what to do
}

// HostChange is what a change does to one host. The numbers count verdict
// entries, of which the kernel's policy map holds one each.
type HostChange struct {
	Host          string
	Before, After int // all entries
	Added         int
	Removed       int
	Changed       int      // same flows, another verdict or rule
	Lines         []string // the same in words
}

// Cut is something that people or the mesh depend on, that works before a change
// and does not after it.
type Cut struct {
	Host string // that would deny it
	What string
}

// Result is what a review found.
type Result struct {
	Findings []Finding    // errors first
	Hosts    []HostChange // those that something changes for, by name
	Cuts     []Cut

	subjects map[string]*subject // by host
	owners   map[netip.Addr]mesh.Identity
}

// Flow is a flow at a host of the mesh, as a log of flows would have it.
type Flow struct {
	Host      string // that judges
	Direction policy.Direction
	Protocol  uint8         // IANA number
	Port      uint16        // as in policy.Flow
	Remote    netip.Addr    // the other side
	Peer      mesh.Identity // of Remote; 0 to look it up among the hosts and the prefixes of policy
}

// Refused reports whether a finding is an error.
func (r Result) Refused() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == SeverityError })
}

// Judge decides a flow by the policies before and by those after. ok is false
// where the change does not concern the host, which then judges as it did. This
// is how recorded flows are compared with a change: replay each.
func (r Result) Judge(f Flow) (before, after policy.Decision, ok bool) {
	s, ok := r.subjects[f.Host]
	if !ok {
		return before, after, false
	}
	return judge(s.before, f, r.owners), judge(s.after, f, r.owners), true
}

func judge(v policy.Verdicts, f Flow, owners map[netip.Addr]mesh.Identity) policy.Decision {
	peer := f.Peer
	if peer == identity.Unknown {
		peer = owners[f.Remote.Unmap()]
	}
	if peer == identity.Unknown {
		peer = v.Identify(f.Remote)
	}
	return v.Judge(policy.Flow{Peer: peer, Direction: f.Direction, Protocol: f.Protocol, Port: f.Port})
}

// owners returns the identity of each address that a host of the mesh has.
func (m Mesh) owners() map[netip.Addr]mesh.Identity {
	out := make(map[netip.Addr]mesh.Identity, 3*len(m.Hosts))
	for _, h := range m.Hosts {
		for _, a := range h.Addresses {
			out[a.Unmap()] = h.Identity
		}
	}
	return out
}

// Review says what it does to m that the policies before become those after.
func Review(before, after []policy.Policy, m Mesh, o Options) Result {
	r := newReviewer(before, after, m, o)
	r.lint()
	out := Result{Findings: r.findings, Hosts: r.changes(), Cuts: r.cuts(), subjects: r.byHost, owners: r.owners}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.File, b.File), cmp.Compare(a.Policy, b.Policy),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	return out
}

// report adds a finding about a policy, or about a part of one.
func (r *reviewer) report(severity, code string, at place, format string, args ...any) {
	f := Finding{Severity: severity, Code: code, Path: at.path, Text: fmt.Sprintf(format, args...)}
	if p := at.policy; p != nil {
		f.Policy, f.File, f.Line = p.ID(), p.File, p.Line
		if at.line > 0 {
			f.Line = p.FileLine(at.line)
		}
	}
	r.findings = append(r.findings, f)
}

// place is where in the policies something stands.
type place struct {
	policy *policy.Policy
	path   string
	line   int // in the policy's document, from 1; 0 for none
}

// at returns the place of a clause of rule.
func at(p *policy.Policy, rule *policy.Rule, c *policy.Clause) place {
	path := c.Section
	if rule.Path == "spec" {
		path = rule.Path + "." + path
	}
	return place{p, path, c.Line}
}
