package policy

import (
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
