package loader

import (
	"testing"

	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// TestSendersOfOpenConnectionsAreNotTold shows that a segment of an open connection
// that a new policy denies is lost on its way out, and not refused to the socket: TCP
// that is told so gives up within seconds. First packets, datagrams, and what comes
// in are refused in the plain way.
func TestSendersOfOpenConnectionsAreNotTold(t *testing.T) {
	netnstest.Run(t, func() {
		h := benchHost(t)
		type try struct {
			name  string
			d     direction
			frame []byte
			want  uint32
		}
		var tries []try
		h.eachFlow(t, func(name string, d direction, p packet) {
			want := drop
			if d.outgoing && p.proto == tcp {
				want = lose
			}
			first := p
			first.sport, first.flags = p.sport+1, syn
			tries = append(tries, try{name, d, p.frame(), want}, try{name + ", first packet", d, first.frame(), drop})
		})
		h.load(rules{port(300, policy.Ingress, tcp, 1): {Rule: 2}}.set())
		for _, c := range tries {
			for range 2 { // judged again, then known as denied
				if got := h.runRaw(c.d.prog, c.frame); got != c.want {
					t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
				}
			}
		}
	})
}
