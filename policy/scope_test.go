package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/identity"
)

// What Cilium adds to selectors, in the words of wordsOf.
const (
	ownNS    = "k8s:io.kubernetes.pod.namespace In prod"
	anyNS    = "k8s:io.kubernetes.pod.namespace Exists"
	ownMesh  = "k8s:io.cilium.k8s.policy.cluster In vms"
	nsKey    = "io.kubernetes.pod.namespace"
	nsLabel  = "io.cilium.k8s.namespace.labels.team"
	meshKey  = "io.cilium.k8s.policy.cluster"
	nodeText = `"reserved:remote-node"`
)

func expression(key, operator string) string {
	values := ""
	if strings.HasSuffix(operator, "In") {
		values = ", values: [x]"
	}
	return fmt.Sprintf("{matchExpressions: [{key: %s, operator: %s%s}]}", key, operator, values)
}

// TestScopes compares what is added to selectors of peers with what Cilium 1.20
// adds (pkg/k8s/apis/cilium.io/utils, getEndpointSelector and
// addClusterFilterByDefault): in a policy of namespace prod, in a clusterwide
// one, and in both where policyDefaultLocalCluster is false.
func TestScopes(t *testing.T) {
	type scoped struct{ selector, namespaced, clusterwide string }
	tests := []scoped{
		{"{}", ownNS + "; " + ownMesh, anyNS + "; " + ownMesh},
		{"{matchLabels: {app: web}}", ownNS + "; " + ownMesh, anyNS + "; " + ownMesh},
		{expression(nsLabel+"x", "Exists"), ownMesh, anyNS + "; " + ownMesh},
		// What only begins like one of the keys is a label like others.
		{expression(nsKey+".x", "Exists"), ownNS + "; " + ownMesh, anyNS + "; " + ownMesh},
		{expression("io.cilium.k8s.namespace.labels", "Exists"), ownNS + "; " + ownMesh, anyNS + "; " + ownMesh},
		{expression(meshKey+"-x", "Exists"), ownNS + "; " + ownMesh, anyNS + "; " + ownMesh},
		// A reserved label without its source is one of any source.
		{expression("remote-node", "Exists"), ownNS + "; " + ownMesh, anyNS + "; " + ownMesh},
		{`{matchLabels: {"reserved:host": "", app: web}}`, "", ""},
		{`{matchLabels: {` + nsKey + `: a, ` + meshKey + `: b}}`, "", ""},
	}
	for _, operator := range []string{"In", "NotIn", "Exists", "DoesNotExist"} {
		for _, source := range []string{"", "any:", "k8s:"} {
			tests = append(tests,
				scoped{expression(source+nsKey, operator), ownMesh, ownMesh},
				scoped{expression(source+nsLabel, operator), ownMesh, anyNS + "; " + ownMesh},
				scoped{expression(source+meshKey, operator), ownNS, anyNS})
		}
		tests = append(tests, scoped{expression(`"reserved:world"`, operator), "", ""})
	}
	for _, tt := range tests {
		s := readSelector(t, tt.selector)
		for sc, want := range map[scope]string{
			{namespace: "prod", cluster: "vms"}: tt.namespaced,
			{cluster: "vms"}:                    tt.clusterwide,
			{namespace: "prod"}:                 withoutMesh(tt.namespaced),
			{}:                                  withoutMesh(tt.clusterwide),
		} {
			if got := wordsOf(sc.confine(s)[len(s):]); got != want {
				t.Errorf("%s in %+v: added %q, want %q", tt.selector, sc, got, want)
			}
		}
	}
}

func withoutMesh(words string) string {
	return strings.TrimSuffix(strings.TrimSuffix(words, ownMesh), "; ")
}

// TestScopesOfNodes does so for fromNodes and toNodes, which know no namespace.
func TestScopesOfNodes(t *testing.T) {
	for _, tt := range []struct{ selector, want string }{
		{"{}", ownMesh},
		{"{matchLabels: {app: web}}", "any:app In web; " + ownMesh},
		{expression(nsKey, "Exists"), "any:" + nsKey + " Exists; " + ownMesh},
		{expression(meshKey, "Exists"), "any:" + meshKey + " Exists"},
		{expression("k8s:"+meshKey, "DoesNotExist"), "k8s:" + meshKey + " DoesNotExist"},
		{expression(nodeText, "Exists"), ownMesh},
		{expression(nodeText, "NotIn"), ownMesh},
		{expression(nodeText, "In"), "nobody"},
		{expression(nodeText, "DoesNotExist"), "nobody"},
		{expression(`"reserved:host"`, "Exists"), "reserved:host Exists; " + ownMesh},
	} {
		got := "nobody"
		if s, possible := (scope{namespace: "prod", cluster: "vms"}).confineNode(readSelector(t, tt.selector)); possible {
			got = wordsOf(s)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.selector, diff)
		}
	}
}

func readSelector(t *testing.T, text string) identity.Selector {
	t.Helper()
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	d := new(decoder)
	s := d.selector(n.Content[0], "")
	if len(d.problems) > 0 {
		t.Fatalf("%s: %v", text, d.problems[0])
	}
	return s
}

func wordsOf(s identity.Selector) string {
	var words []string
	for _, r := range s {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s:%s %s %s", r.Source, r.Key, r.Operator, strings.Join(r.Values, " "))))
	}
	return strings.Join(words, "; ")
}

// TestEntitiesKnowTheOwnClusterAlone: policyDefaultLocalCluster is about
// selectors, while the entity cluster is always the own one.
func TestEntitiesKnowTheOwnClusterAlone(t *testing.T) {
	subject := castSubject("db")
	for _, every := range []bool{false, true} {
		subject.EveryCluster = every
		for entity, want := range map[string]bool{"cluster": false, "remote-node": false, "cluster-mesh": true, "all": true} {
			v := Compile(mustParse(t, clusterwide("a", toDB+"ingress: [{fromEntities: ["+entity+"]}]")), subject, castWorld())
			if got := v.Judge(Flow{Peer: cast["pod"].id, Protocol: 6, Port: 22}); got.Allowed != want {
				t.Errorf("EveryCluster %v: entity %s lets a pod of another cluster in: %v", every, entity, got.Allowed)
			}
			if got := v.Judge(Flow{Peer: cast["web"].id, Protocol: 6, Port: 22}); !got.Allowed {
				t.Errorf("EveryCluster %v: entity %s keeps a host of the mesh out", every, entity)
			}
		}
	}
}

// TestScopesOfSubjects: nothing but the namespace of the policy is added to what
// selects hosts.
func TestScopesOfSubjects(t *testing.T) {
	for _, tt := range []struct {
		name, policies string
		want           string // hosts that are selected
	}{
		{"{} in a namespace", namespaced("default", "a", "endpointSelector: {}, ingress: [{}]"), "db pod web"},
		{"{} clusterwide", clusterwide("a", "endpointSelector: {}, ingress: [{}]"), "admin db pod stage web"},
		{"the own namespace by name", namespaced("staging", "a", "endpointSelector: {matchLabels: {k8s:io.kubernetes.pod.namespace: staging}}, ingress: [{}]"), "stage"},
		{"another cluster", clusterwide("a", "endpointSelector: {matchLabels: {io.cilium.k8s.policy.cluster: k8s}}, ingress: [{}]"), "pod"},
		{"the own cluster", clusterwide("a", "nodeSelector: {matchLabels: {k8s:io.cilium.k8s.policy.cluster: vms}}, ingress: [{}]"), "admin db stage web"},
		{"labels of a namespace, in a namespace", namespaced("default", "a", "endpointSelector: {matchLabels: {io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: ops}}, ingress: [{}]"), ""},
		{"labels of a namespace, clusterwide", clusterwide("a", "endpointSelector: {matchLabels: {io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: ops}}, ingress: [{}]"), "admin"},
		{"a reserved label", clusterwide("a", `endpointSelector: {matchLabels: {"reserved:init": ""}}, ingress: [{}]`), ""},
		{"a NetworkPolicy", kubernetes("a", "podSelector: {matchLabels: {app: web}}"), "pod web"},
	} {
		policies := mustParse(t, tt.policies)
		var got []string
		for _, name := range []string{"admin", "db", "pod", "stage", "web"} {
			if policies[0].Selects(castLabels(name)) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s selects %q, want %q", tt.name, got, tt.want)
		}
	}
}
