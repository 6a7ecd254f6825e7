package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// cast are the hosts that test scripts and docs/policy.md speak of: those of
// mesh "vms", and pods of a Kubernetes cluster "k8s" that federates with it.
var cast = map[string]struct {
	id        mesh.Identity
	namespace string
	cluster   string
	given     map[string]string
	ports     []mesh.NamedPort
}{
	"web":   {1<<16 | 256, "default", "vms", map[string]string{"app": "web"}, named("metrics", 9200)},
	"db":    {1<<16 | 257, "default", "vms", map[string]string{"app": "db", "tier": "gold"}, append(named("metrics", 9100), named("pg", 5432)...)},
	"admin": {1<<16 | 258, "ops", "vms", map[string]string{"role": "admin"}, nil},
	"stage": {1<<16 | 259, "staging", "vms", map[string]string{"app": "web"}, nil},
	"pod":   {2<<16 | 256, "default", "k8s", map[string]string{"app": "web"}, append(named("metrics", 8080), named("metrics", 8081)...)},
}

func named(name string, port uint16) []mesh.NamedPort {
	return []mesh.NamedPort{{Name: name, Port: port, Protocol: "TCP"}}
}

func castLabels(name string) identity.Labels {
	c := cast[name]
	return identity.HostLabels(c.given, c.namespace, mesh.Cluster{Name: c.cluster})
}

func castWorld() World {
	w := World{Labels: make(map[mesh.Identity]identity.Labels), Ports: make(map[mesh.Identity][]mesh.NamedPort)}
	for name, c := range cast {
		w.Labels[c.id] = castLabels(name)
		w.Ports[c.id] = c.ports
	}
	return w
}

func castSubject(name string) Subject {
	return Subject{Identity: cast[name].id, Labels: castLabels(name), Cluster: "vms", Ports: cast[name].ports}
}

// play checks lines such as "db <- web 5432/TCP allow default/a ingress[0]".
// The arrow is the flow's, the host at the left judges; the rule may be left out, and "-"
// means that none decided. A line that begins with "staged" is about what policy
// would say if staged rules had effect.
func play(t *testing.T, policies []Policy, script string) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(script) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		if err := playLine(policies, strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if lines == 0 {
		t.Error("script says nothing")
	}
}

func playLine(policies []Policy, words []string) error {
	staged := words[0] == "staged"
	if staged {
		words = words[1:]
	}
	if len(words) < 5 || cast[words[0]].id == 0 {
		return fmt.Errorf("malformed line")
	}
	v := Compile(policies, castSubject(words[0]), castWorld())
	if staged && v.Staged == nil {
		return fmt.Errorf("no staged rule selects %s", words[0])
	}
	if staged {
		v = *v.Staged
	}
	f, err := parseFlow(v, words[1], words[2], words[3])
	if err != nil {
		return err
	}
	got := v.Judge(f)
	if want := words[4]; got.Allowed != (want == "allow") || want != "allow" && want != "deny" {
		return fmt.Errorf("got %+v", got)
	}
	want := strings.TrimPrefix(strings.Join(words[5:], " "), "-")
	if len(words) > 5 && got.Ref.String() != want {
		return fmt.Errorf("decided by %q, want %q", got.Ref, want)
	}
	return nil
}

func parseFlow(v Verdicts, arrow, peer, port string) (f Flow, err error) {
	f.Direction = map[string]Direction{"<-": Ingress, "->": Egress}[arrow]
	reserved := map[string]mesh.Identity{"host": 1, "remote-node": 6, "kube-apiserver": 7, "health": 4, "world": 2, "world-ipv4": 9, "world-ipv6": 10, "unknown": 0}
	if id, known := reserved[peer]; known {
		f.Peer = id
	} else if c, known := cast[peer]; known {
		f.Peer = c.id
	} else if a, err := netip.ParseAddr(peer); err == nil {
		f.Peer = v.Identify(a)
	} else {
		return f, fmt.Errorf("nobody is called %q", peer)
	}
	f.Protocol, f.Port, err = parsePort(port)
	return f, err
}

// parsePort reads "5432/TCP", "ICMP:8" for a type, or a protocol alone.
func parsePort(s string) (protocol uint8, port uint16, err error) {
	name, number, shift := s, "0", 0
	if before, after, found := strings.Cut(s, "/"); found {
		name, number = after, before
	} else if before, after, found := strings.Cut(s, ":"); found {
		name, number, shift = before, after, 8
	}
	n, err := strconv.ParseUint(number, 10, 16-shift)
	if err != nil {
		return 0, 0, err
	}
	protocol, err = ParseProtocol(name)
	return protocol, uint16(n) << shift, err
}

func mustParse(t testing.TB, doc string) []Policy {
	t.Helper()
	policies, err := Parse("test.yaml", []byte(doc))
	if err != nil {
		t.Fatalf("parse:\n%v", err)
	}
	return policies
}

// clusterwide and namespaced return documents with a spec in flow style.
func clusterwide(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

func namespaced(namespace, name, spec string) string {
	return fmt.Sprintf("---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n", name, namespace, spec)
}
