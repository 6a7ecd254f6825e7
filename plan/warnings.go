package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// Warning is something in the mesh's state that a person should know.
type Warning struct {
	Code string // stable
	Text string
}

// unknownIdentities warns of addresses whose labels nobody has told.
func unknownIdentities(s state.Snapshot) []Warning {
	var out []Warning
	for p, e := range s.Endpoints {
		if !known(s, e.Identity) {
			out = append(out, Warning{Code: "identity-unknown", Text: fmt.Sprintf("address %s has identity %d, whose labels are unknown: its traffic is dropped until they are", p, e.Identity)})
		}
	}
	return out
}

// refusals warns of peers without a tunnel.
func refusals(refused []encryption.Refusal) []Warning {
	var out []Warning
	for _, r := range refused {
		out = append(out, Warning{Code: "peer-refused", Text: fmt.Sprintf("no tunnel for %s", r)})
	}
	return out
}

func lowMTU(text string) []Warning {
	if text == "" {
		return nil
	}
	return []Warning{{Code: "mtu-low", Text: text}}
}

// unmeant warns of what policies name and nothing answers to, where a rule for
// this host then does less than it says.
func unmeant(policies []policy.Policy, sub policy.Subject, world policy.World) []Warning {
	groups := make(map[string]bool)
	for _, p := range policies {
		if p.Kind == policy.CIDRGroup {
			groups[p.Name] = true
		}
	}
	var out []Warning
	for _, p := range policies {
		if p.Kind == policy.CIDRGroup {
			continue
		}
		if p.Local && !p.Selects(sub.Labels) {
			out = append(out, Warning{Code: "local-policy-unused", Text: fmt.Sprintf("%s is a policy of this host's own files and does not select this host: it does nothing", p.ID())})
		}
		for _, c := range clausesFor(p, sub.Labels) {
			out = append(out, missingGroups(p, c, groups)...)
			out = append(out, missingPorts(p, c, declaredTo(c, sub, world))...)
		}
	}
	return out
}

// clausesFor returns the clauses of p that are about a host with labels.
func clausesFor(p policy.Policy, labels identity.Labels) []policy.Clause {
	var out []policy.Clause
	for _, r := range p.Rules {
		one := p
		one.Rules = []policy.Rule{r}
		if one.Selects(labels) {
			out = append(out, r.Clauses...)
		}
	}
	return out
}

func missingGroups(p policy.Policy, c policy.Clause, groups map[string]bool) []Warning {
	var out []Warning
	for _, ref := range c.Peers.Groups {
		if ref.Name != "" && !groups[ref.Name] {
			out = append(out, Warning{Code: "cidr-group-missing", Text: fmt.Sprintf("%s %s refers to CIDR group %q, which does not exist: it means no address", p.ID(), c.Section, ref.Name)})
		}
	}
	return out
}

// declaredTo returns the ports that the names of c may stand for.
func declaredTo(c policy.Clause, sub policy.Subject, world policy.World) []mesh.NamedPort {
	if c.Direction == policy.Ingress || len(c.PortNames) == 0 {
		return sub.Ports
	}
	var out []mesh.NamedPort
	for _, ports := range world.Ports {
		out = append(out, ports...)
	}
	return out
}

// missingPorts warns of denials alone: an allow of a port that nobody declares
// opens nothing, while a deny of it leaves open what it was written to close.
func missingPorts(p policy.Policy, c policy.Clause, declared []mesh.NamedPort) []Warning {
	var out []Warning
	for _, name := range c.PortNames {
		if c.Deny && len(name.Among(declared)) == 0 {
			out = append(out, Warning{Code: "port-name-undeclared", Text: fmt.Sprintf("%s %s denies port %q, but %s: it denies nothing by that name", p.ID(), c.Section, name.Name, undeclared(c.Direction))})
		}
	}
	return out
}

func undeclared(d policy.Direction) string {
	if d == policy.Ingress {
		return "this host declares none (key named-ports)"
	}
	return "no host declares one (key named-ports)"
}

func sortWarnings(ws []Warning) []Warning {
	slices.SortFunc(ws, func(a, b Warning) int {
		return cmp.Or(strings.Compare(a.Code, b.Code), strings.Compare(a.Text, b.Text))
	})
	return slices.Compact(ws)
}
