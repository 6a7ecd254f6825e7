package policy

import (
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// cidrsOf returns the prefixes that p means, those of groups too. A group that
// does not exist has none.
func (c *compiler) cidrsOf(p Peers) []CIDR {
	out := slices.Clip(p.CIDRs)
	for _, ref := range p.Groups {
		for _, group := range c.groups {
			if ref.means(group) {
				out = append(out, ref.prefixesOf(group)...)
			}
		}
	}
	return out
}

// portsOf returns the ports that a clause means with a peer: those it gives by
// number, and those that the receiving side declares under the names it gives.
// With named ports alone there may be none, which is no port.
func (c *compiler) portsOf(clause *Clause, peer mesh.Identity) []PortRange {
	if len(clause.PortNames) == 0 {
		return clause.Ports
	}
	declared := c.subject.Ports
	if clause.Direction == Egress {
		declared = c.world.Ports[peer]
	}
	out := slices.Clip(clause.Ports)
	for _, name := range clause.PortNames {
		for _, d := range declared {
			if r, ok := name.means(d); ok && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// means returns the port that d declares if it has the name.
func (n PortName) means(d mesh.NamedPort) (PortRange, bool) {
	protocol, err := ParseProtocol(d.Protocol)
	if err != nil || !strings.EqualFold(n.Name, d.Name) || n.Protocol != 0 && n.Protocol != protocol {
		return PortRange{}, false
	}
	return PortRange{Protocol: protocol, First: d.Port, Last: d.Port}, true
}
