package review

import (
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

const udp = 17

// lintPorts looks at single ports and at names of ports. Ranges are often wider
// than what a host serves, and on purpose.
func (r *reviewer) lintPorts(c clauseOf, selected []*subject) {
	for _, p := range c.clause.Ports {
		if p.First == p.Last {
			r.lintListening(c, portText(p.Protocol, int(p.First), int(p.Last)), selected,
				func(*subject) []policy.PortRange { return []policy.PortRange{p} })
		}
	}
	for _, name := range c.clause.PortNames {
		if c.clause.Direction == policy.Egress {
			r.lintPeersName(c, name)
			continue
		}
		r.lintOwnName(c, name, selected)
		r.lintListening(c, nameText(name), selected, func(s *subject) []policy.PortRange { return name.Among(s.Ports) })
	}
}

// lintListening warns of ports that are allowed where no program waits at them.
func (r *reviewer) lintListening(c clauseOf, what string, selected []*subject, ports func(*subject) []policy.PortRange) {
	if c.clause.Direction != policy.Ingress || c.clause.Deny {
		return
	}
	var deaf []string
	for _, s := range selected {
		for _, p := range ports(s) {
			for _, h := range s.hosts {
				if h.Listening != nil && (p.Protocol == 0 || p.Protocol == tcp || p.Protocol == udp) && !listens(h, p) {
					deaf = append(deaf, h.Name)
				}
			}
		}
	}
	if len(deaf) > 0 {
		slices.Sort(deaf)
		r.report(SeverityWarning, CodeNobodyListens, c.at(), "allows %s, and no program waits at it on %s: is it another port, or is the service not running?",
			what, some(slices.Compact(deaf)))
	}
}

func listens(h *Host, p policy.PortRange) bool {
	return slices.ContainsFunc(h.Listening, func(l mesh.Listener) bool {
		return l.Port == p.First && (p.Protocol == 0 || strings.EqualFold(l.Protocol, policy.ProtocolName(p.Protocol)))
	})
}

// lintOwnName looks for selected hosts that do not declare a port under name: a
// rule that denies it would deny nothing there.
func (r *reviewer) lintOwnName(c clauseOf, name policy.PortName, selected []*subject) {
	var without []string
	for _, s := range selected {
		if len(name.Among(s.Ports)) == 0 {
			for _, h := range s.hosts {
				without = append(without, h.Name)
			}
		}
	}
	if len(without) > 0 {
		slices.Sort(without)
		r.report(undeclared(c), CodeUndeclaredPort, c.at(), "names port %s, which is not declared by %s: the rule means no port there; add it to named-ports in the configuration, or write the number",
			nameText(name), some(without))
	}
}

// lintPeersName looks for a port name of peers that nobody declares.
func (r *reviewer) lintPeersName(c clauseOf, name policy.PortName) {
	for _, ports := range r.mesh.World.Ports {
		if len(name.Among(ports)) > 0 {
			return
		}
	}
	r.report(undeclared(c), CodeUndeclaredPort, c.at(), "names port %s of its peers, which is declared by nobody in the mesh: the rule means no port; add it to named-ports in their configuration, or write the number",
		nameText(name))
}

// undeclared is how bad a port name is that means nothing: a rule that allows it
// keeps closed what should be open, one that denies it leaves it open.
func undeclared(c clauseOf) string {
	if c.clause.Deny {
		return SeverityError
	}
	return SeverityWarning
}

func nameText(n policy.PortName) string {
	if n.Protocol == 0 {
		return n.Name
	}
	return n.Name + "/" + policy.ProtocolName(n.Protocol)
}
