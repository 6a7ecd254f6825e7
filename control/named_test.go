package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/mesh"
)

func tcpPort(name string, port uint16) mesh.NamedPort {
	return mesh.NamedPort{Name: name, Port: port, Protocol: "TCP"}
}

// with returns the claim of a with named ports.
func with(ports ...mesh.NamedPort) mesh.Claim {
	c := claim("a", key(1), "192.0.2.1")
	c.NamedPorts = ports
	return c
}

func TestJudgeNamedPorts(t *testing.T) {
	var many []mesh.NamedPort
	for i := range uint16(MaxNamedPorts + 1) {
		many = append(many, tcpPort(fmt.Sprintf("p%02d", i), 1000+i))
	}
	for _, tt := range []struct {
		name    string
		claim   mesh.Claim
		want    []mesh.NamedPort
		refused string // field of the refusal
	}{
		{"accepted, sorted", with(tcpPort("pg", 5432), tcpPort("http", 80)), []mesh.NamedPort{tcpPort("http", 80), tcpPort("pg", 5432)}, ""},
		{"none", with(), nil, ""},
		{"one name twice", with(tcpPort("pg", 2), tcpPort("pg", 1)), []mesh.NamedPort{tcpPort("pg", 1)}, "named-port"},
		{"one name in two cases", with(tcpPort("pg", 2), tcpPort("PG", 1)), []mesh.NamedPort{tcpPort("PG", 1)}, "named-port"},
		{"no name", with(tcpPort("", 2), tcpPort("pg", 1)), []mesh.NamedPort{tcpPort("pg", 1)}, "named-port"},
		{"an unknown protocol", with(mesh.NamedPort{Name: "x", Port: 1, Protocol: "ESP"}), nil, "named-port"},
		{"as many as there may be", with(many[:MaxNamedPorts]...), many[:MaxNamedPorts], ""},
		{"too many: the claim is void", with(many...), nil, "node"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world()
			w.Claims["a"] = tt.claim
			facts, refused := Judge(w)
			if diff := cmp.Diff(tt.want, facts["a"].NamedPorts); diff != "" {
				t.Errorf("named ports (-want +got):\n%s", diff)
			}
			var fields []string
			for _, r := range refused["a"] {
				fields = append(fields, r.Field)
			}
			if strings.Join(fields, ",") != tt.refused {
				t.Errorf("refused %+v, want %q", refused["a"], tt.refused)
			}
		})
	}
}

func TestSilenceKeepsNamedPorts(t *testing.T) {
	w := world()
	w.Facts["a"] = mesh.Node{Name: "a", NamedPorts: []mesh.NamedPort{tcpPort("pg", 5432)}}
	facts, _ := Judge(w)
	if diff := cmp.Diff(w.Facts["a"].NamedPorts, facts["a"].NamedPorts); diff != "" {
		t.Errorf("named ports of a host that claims nothing (-want +got):\n%s", diff)
	}
}

// TestNamedPortsReachOwnEntriesAlone lets a host say everything that a claim can
// hold, and compares what is true of every host with and without it.
func TestNamedPortsReachOwnEntriesAlone(t *testing.T) {
	plain, loud := world(), world()
	for _, w := range []World{plain, loud} {
		w.Claims["a"] = claim("a", key(1), "192.0.2.1")
		b := claim("b", key(2), "192.0.2.2")
		b.NamedPorts = []mesh.NamedPort{tcpPort("pg", 5432)}
		w.Claims["b"] = b
	}
	c := with(tcpPort("pg", 1), tcpPort("http", 80))
	c.Listening = []mesh.Listener{{Protocol: "TCP", Port: 22}}
	c.Pinholes = []string{"ingress 1/TCP"}
	loud.Claims["a"] = c
	before, _ := Judge(plain)
	after, refused := Judge(loud)
	if len(refused) > 0 {
		t.Errorf("refused %+v", refused)
	}
	entries := func(facts map[string]mesh.Node, name string) []mesh.Endpoint {
		return Endpoints(facts[name], 2752600, "default")
	}
	if diff := cmp.Diff(entries(before, "b"), entries(after, "b"), compareAddr); diff != "" || !before["b"].Equal(after["b"]) {
		t.Errorf("a claim of a changed b:\n%s", diff)
	}
	own := entries(before, "a")
	for i := range own {
		own[i].NamedPorts = []mesh.NamedPort{tcpPort("http", 80), tcpPort("pg", 1)}
	}
	if diff := cmp.Diff(own, entries(after, "a"), compareAddr); diff != "" || len(own) == 0 {
		t.Errorf("entries of a (-want +got):\n%s", diff)
	}
	n := after["a"]
	n.NamedPorts = nil
	if !n.Equal(before["a"]) {
		t.Errorf("more than named ports became a fact: %+v", after["a"])
	}
}
