package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// FileLine returns where in p.File a line of p's document stands, as the lines
// of clauses are given. Both count from 1.
func (p Policy) FileLine(line int) int {
	first := 1 // line of the document at which the policy itself begins: p.Line in the file
	for l := range strings.Lines(p.Source) {
		if !blank(l) {
			break
		}
		first++
	}
	return p.Line - first + line
}

// Among returns the ports of those declared that n stands for.
func (n PortName) Among(declared []mesh.NamedPort) []PortRange {
	var out []PortRange
	for _, d := range declared {
		if r, ok := n.means(d); ok {
			out = append(out, r)
		}
	}
	return out
}

// ParseICMP reads a type of ICMP of a family, "IPv4" or "IPv6", by number or by
// Cilium's name, as a rule gives it. It returns protocol and port as in [Flow].
func ParseICMP(family, kind string) (protocol uint8, port uint16, err error) {
	f, known := icmpFamilies[family]
	if !known {
		return 0, 0, fmt.Errorf("%q is no family: write IPv4 or IPv6", shorten(family))
	}
	if t, named := f.types[kind]; named {
		return f.protocol, ICMPType(t), nil
	}
	t, err := strconv.ParseUint(kind, 10, 8)
	if err != nil || kind != strconv.FormatUint(t, 10) { // more digits than it needs: some read octal
		return 0, 0, fmt.Errorf("%q is no ICMP type of %s: write a number from 0 to 255, or one of Cilium's names, such as EchoRequest", shorten(kind), family)
	}
	return f.protocol, ICMPType(uint8(t)), nil
}

// ValidPortName reports whether a port may have the name s.
func ValidPortName(s string) bool { return isPortName(s) }
