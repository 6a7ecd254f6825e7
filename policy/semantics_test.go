package policy

import "testing"

// toDB begins a spec about the host db.
const toDB = "endpointSelector: {matchLabels: {app: db}}, "

// story is a set of policies with what they decide.
type story struct{ name, policies, script string }

func tell(t *testing.T, stories []story) {
	t.Helper()
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) { play(t, mustParse(t, s.policies), s.script) })
	}
}

func TestSemantics(t *testing.T) {
	tell(t, []story{
		{"a host that no policy selects is open", namespaced("default", "a", toDB+"ingress: [{}]"), `
			web <- db 22/TCP allow -
			db -> web 22/TCP allow -
			db <- web 22/TCP deny -
			db <- unknown 22/TCP deny -`},
		{"allows are a union", namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}, {fromEntities: [host]}]"), `
			db <- web 22/TCP allow default/a ingress[0]
			db <- web ICMP allow
			db <- host 22/TCP allow default/a ingress[1]
			db <- admin 22/TCP deny -`},
		{"peers and ports must both match", clusterwide("a", toDB+`ingress: [{fromEntities: [cluster], toPorts: [{ports: [{port: "80", protocol: TCP}]}, {ports: [{port: "53"}]}]}]`), `
			db <- web 80/TCP allow a ingress[0]
			db <- web 53/UDP allow
			db <- web 53/SCTP allow
			db <- web 80/UDP deny
			db <- web 81/TCP deny
			db <- web ICMP deny
			db <- 192.0.2.1 80/TCP deny`},
		{"ports without peers mean everybody", clusterwide("a", toDB+`ingress: [{toPorts: [{ports: [{port: "80"}]}]}]`), `
			db <- unknown 80/TCP allow a ingress[0]
			db <- 192.0.2.1 80/SCTP allow
			db <- web ICMP deny`},
		{"an empty list of peers is nobody", clusterwide("a", toDB+`ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: "80"}]}]}, {fromEntities: []}, {fromCIDR: []}, {fromCIDRSet: []}]`), `
			db <- web 80/TCP deny -
			db <- 192.0.2.1 80/TCP deny`},
		{"an empty clause switches on default deny alone", clusterwide("a", toDB+"egress: [{}]"), `
			db -> web 80/TCP deny -
			db <- web 80/TCP allow -`},
		{"deny beats a narrower allow", clusterwide("a", toDB+`ingressDeny: [{fromEndpoints: [{}]}], ingress: [{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]`), `
			db <- web 80/TCP deny a ingressDeny[0]
			db <- 192.0.2.1 80/TCP deny -`},
		{"a narrower deny leaves the rest of an allow", clusterwide("a", toDB+`ingressDeny: [{fromEndpoints: [{}], toPorts: [{ports: [{port: "22"}]}]}], ingress: [{fromEntities: [cluster]}]`), `
			db <- web 22/TCP deny a ingressDeny[0]
			db <- web 23/TCP allow a ingress[0]
			db <- host 22/TCP allow`},
		{"a deny of everybody beats an allow of one", clusterwide("a", toDB+`ingressDeny: [{toPorts: [{ports: [{port: "22", protocol: TCP}]}]}], ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]`), `
			db <- web 22/TCP deny a ingressDeny[0]
			db <- web 22/UDP allow a ingress[0]`},
		{"a deny of one beats an allow of everybody", clusterwide("a", toDB+"ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}], ingress: [{fromEntities: [all]}]"), `
			db <- web 22/TCP deny a ingressDeny[0]
			db <- admin 22/TCP allow a ingress[0]
			db <- unknown 22/TCP allow`},
		{"a deny in one policy beats an allow in another", clusterwide("a", toDB+"ingress: [{fromEntities: [all]}]") + namespaced("default", "b", toDB+"ingressDeny: [{fromCIDR: [192.0.2.0/24]}]"), `
			db <- 192.0.2.9 22/TCP deny default/b ingressDeny[0]
			db <- 198.51.100.9 22/TCP allow`},
	})
}

func TestDefaultDenyAndOrder(t *testing.T) {
	tell(t, []story{
		{"deny alone switches on default deny", clusterwide("a", toDB+"ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}]"), `
			db <- admin 22/TCP deny -
			db -> admin 22/TCP allow -`},
		{"unless enableDefaultDeny says no", clusterwide("a", toDB+"enableDefaultDeny: {ingress: false}, ingressDeny: [{fromEndpoints: [{matchLabels: {app: web}}]}]"), `
			db <- web 22/TCP deny a ingressDeny[0]
			db <- admin 22/TCP allow -`},
		{"one policy that enforces is enough", clusterwide("a", toDB+"enableDefaultDeny: {ingress: false}, ingress: [{fromEntities: [host]}]") + clusterwide("b", toDB+"ingress: [{}]"), `
			db <- host 22/TCP allow a ingress[0]
			db <- web 22/TCP deny -`},
		{"enableDefaultDeny can enforce a direction without clauses", clusterwide("a", toDB+"enableDefaultDeny: {egress: true}, ingress: [{fromEntities: [all]}]"), `
			db -> web 22/TCP deny -
			db <- web 22/TCP allow`},
		{"specs are rules of their own", "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: a}\nspecs:\n- {" + toDB + "ingress: [{}]}\n- {nodeSelector: {}, egressDeny: [{toEntities: [world]}], enableDefaultDeny: {egress: false}}\n", `
			db <- web 22/TCP deny -
			db -> 192.0.2.1 22/TCP deny a specs[1].egressDeny[0]
			web -> 192.0.2.1 22/TCP deny a specs[1].egressDeny[0]
			web <- db 22/TCP allow -`},
		{"among equal keys the first policy by name decides", clusterwide("b", toDB+"ingress: [{fromEntities: [host]}]") + clusterwide("a", toDB+"ingress: [{fromEntities: [cluster]}, {fromEntities: [host]}]"), `
			db <- host 22/TCP allow a ingress[0]`},
		{"the most specific entry decides", clusterwide("a", toDB+`ingress: [{fromEndpoints: [{}]}, {toPorts: [{ports: [{port: "22"}]}]}, {fromEndpoints: [{}], toPorts: [{ports: [{port: "22"}]}]}]`), `
			db <- web 22/TCP allow a ingress[2]
			db <- web 23/TCP allow a ingress[0]
			db <- host 22/TCP allow a ingress[1]`},
	})
}

func TestSelectorScopes(t *testing.T) {
	tell(t, []story{
		{"a namespaced policy selects hosts of its namespace", namespaced("staging", "a", "endpointSelector: {}, ingress: [{}]"), `
			stage <- web 22/TCP deny -
			web <- stage 22/TCP allow -`},
		{"and peers of its namespace and cluster", namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{}]}]"), `
			db <- web 22/TCP allow
			db <- stage 22/TCP deny
			db <- pod 22/TCP deny
			db <- host 22/TCP deny
			db <- 192.0.2.1 22/TCP deny
			db <- unknown 22/TCP deny`},
		{"unless a peer's selector names a namespace", namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: staging}}]}]"), `
			db <- stage 22/TCP allow
			db <- web 22/TCP deny`},
		{"or labels of a namespace", namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name: staging}}]}]"), `
			db <- stage 22/TCP allow
			db <- web 22/TCP deny`},
		{"or a cluster", namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: k8s}}]}]"), `
			db <- pod 22/TCP allow
			db <- web 22/TCP deny`},
		{"or any cluster", namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}]}]"), `
			db <- pod 22/TCP allow
			db <- web 22/TCP allow
			db <- stage 22/TCP deny`},
		{"a clusterwide policy selects hosts of every namespace", clusterwide("a", "endpointSelector: {}, ingress: [{fromEndpoints: [{}]}]"), `
			stage <- web 22/TCP allow
			admin <- stage 22/TCP allow
			db <- pod 22/TCP deny
			db <- host 22/TCP deny
			db <- 192.0.2.1 22/TCP deny`},
		{"nodeSelector selects hosts by the same labels", clusterwide("a", "nodeSelector: {matchExpressions: [{key: tier, operator: In, values: [gold]}]}, ingress: [{}]"), `
			db <- web 22/TCP deny -
			web <- db 22/TCP allow -`},
		{"a reserved label leaves every scope", namespaced("default", "a", toDB+`ingress: [{fromEndpoints: [{matchLabels: {"reserved:world": ""}}, {matchLabels: {"reserved:remote-node": ""}}]}]`), `
			db <- 192.0.2.1 22/TCP allow
			db <- 2001:db8::1 22/TCP allow
			db <- world 22/TCP allow
			db <- remote-node 22/TCP allow
			db <- kube-apiserver 22/TCP allow
			db <- host 22/TCP deny
			db <- web 22/TCP deny`},
		{"the absence of both labels is the rest of the world", clusterwide("a", toDB+"ingress: [{fromEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: DoesNotExist}, {key: io.cilium.k8s.policy.cluster, operator: DoesNotExist}]}]}]"), `
			db <- 192.0.2.1 22/TCP allow
			db <- host 22/TCP allow
			db <- web 22/TCP deny`},
		{"the absence of one is nobody, as the other is asked for", clusterwide("a", toDB+"ingress: [{fromEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: DoesNotExist}]}]}]"), `
			db <- 192.0.2.1 22/TCP deny
			db <- host 22/TCP deny
			db <- web 22/TCP deny`},
	})
}

func TestEveryClusterReachesBeyondOne(t *testing.T) {
	policies := mustParse(t, namespaced("default", "a", toDB+"ingress: [{fromEndpoints: [{}]}]"))
	subject := castSubject("db")
	for _, every := range []bool{false, true} {
		subject.EveryCluster = every
		v := Compile(policies, subject, castWorld())
		if got := v.Judge(Flow{Peer: cast["pod"].id, Protocol: 6, Port: 22}); got.Allowed != every {
			t.Errorf("EveryCluster %v: pod of another cluster: %+v", every, got)
		}
		if got := v.Judge(Flow{Peer: cast["stage"].id, Protocol: 6, Port: 22}); got.Allowed {
			t.Errorf("EveryCluster %v opens other namespaces", every)
		}
	}
}

func TestEntities(t *testing.T) {
	peers := []string{"web", "pod", "host", "remote-node", "kube-apiserver", "health", "world", "192.0.2.1", "2001:db8::1", "10.0.0.1", "unknown"}
	for entity, allowed := range map[string][]string{
		"all":            peers,
		"world":          {"world", "192.0.2.1", "2001:db8::1", "10.0.0.1"},
		"world-ipv4":     {"192.0.2.1", "10.0.0.1"},
		"world-ipv6":     {"2001:db8::1"},
		"cluster":        {"web", "host", "remote-node", "kube-apiserver", "health"},
		"cluster-mesh":   {"web", "pod", "host", "remote-node", "kube-apiserver", "health"},
		"host":           {"host"},
		"remote-node":    {"web", "remote-node", "kube-apiserver"},
		"kube-apiserver": {"kube-apiserver"},
		"health":         {"health"},
		"none":           {},
	} {
		// The CIDR deny gives 10.0.0.0/8 an identity of its own, which the entity must still mean.
		policies := mustParse(t, clusterwide("a", toDB+"ingress: [{fromEntities: ["+entity+"]}], ingressDeny: [{fromCIDR: [10.0.0.0/8], toPorts: [{ports: [{port: \"1\"}]}]}]"))
		expected := make(map[string]string, len(peers))
		for _, p := range allowed {
			expected[p] = "allow"
		}
		for _, p := range peers {
			verdict := expected[p]
			if verdict == "" {
				verdict = "deny"
			}
			play(t, policies, "db <- "+p+" 22/TCP "+verdict)
		}
	}
}

func TestCIDR(t *testing.T) {
	tell(t, []story{
		{"a narrower prefix keeps what a broader one grants", clusterwide("a", toDB+`egress: [{toCIDR: [10.0.0.0/8]}, {toCIDR: [10.1.0.0/16], toPorts: [{ports: [{port: "80"}]}]}]`), `
			db -> 10.1.2.3 22/TCP allow a egress[0]
			db -> 10.1.2.3 80/TCP allow a egress[1]
			db -> 10.2.2.3 80/TCP allow a egress[0]
			db -> 11.0.0.1 80/TCP deny -`},
		{"except takes a part out of one item alone", clusterwide("a", toDB+`egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}, {toCIDR: [10.1.2.0/24]}]`), `
			db -> 10.2.0.1 80/TCP allow a egress[0]
			db -> 10.1.0.1 80/TCP deny -
			db -> 10.1.2.1 80/TCP allow a egress[1]`},
		{"a managed peer is never meant by its address", clusterwide("a", toDB+`egress: [{toCIDR: [0.0.0.0/0, "::/0"]}]`), `
			db -> web 80/TCP deny
			db -> host 80/TCP deny
			db -> remote-node 80/TCP deny
			db -> 192.0.2.1 80/TCP allow
			db -> 2001:db8::1 80/TCP allow
			db -> world-ipv4 80/TCP allow
			db -> world-ipv6 80/TCP allow
			db -> unknown 80/TCP deny`},
		{"each family by itself", clusterwide("a", toDB+`egress: [{toCIDR: [0.0.0.0/0]}]`), `
			db -> 192.0.2.1 80/TCP allow
			db -> 2001:db8::1 80/TCP deny
			db -> world-ipv6 80/TCP deny`},
		{"all but a part", clusterwide("a", toDB+`egress: [{toCIDRSet: [{cidr: 0.0.0.0/0, except: [169.254.0.0/16]}]}]`), `
			db -> 169.254.169.254 80/TCP deny
			db -> 192.0.2.1 80/TCP allow
			db -> world-ipv4 80/TCP allow`},
		{"nothing is left of a prefix without itself", clusterwide("a", toDB+`egress: [{toCIDRSet: [{cidr: 0.0.0.0/0, except: [0.0.0.0/0]}]}]`), `
			db -> 192.0.2.1 80/TCP deny
			db -> world-ipv4 80/TCP deny`},
		{"an address alone is its host prefix, spare bits are cleared", clusterwide("a", toDB+`egress: [{toCIDR: [192.0.2.7, 198.51.100.77/24, "2001:db8::7"]}]`), `
			db -> 192.0.2.7 80/TCP allow
			db -> 192.0.2.8 80/TCP deny
			db -> 198.51.100.1 80/TCP allow
			db -> 2001:db8::7 80/TCP allow
			db -> 2001:db8::8 80/TCP deny`},
		{"deny of a part beats the whole", clusterwide("a", toDB+`egress: [{toCIDR: [10.0.0.0/8]}], egressDeny: [{toCIDR: [10.1.0.0/16]}]`), `
			db -> 10.1.2.3 80/TCP deny a egressDeny[0]
			db -> 10.2.2.3 80/TCP allow`},
		{"deny of the whole beats a part", clusterwide("a", toDB+`egress: [{toCIDR: [10.1.0.0/16]}], egressDeny: [{toCIDR: [10.0.0.0/8]}]`), `
			db -> 10.1.2.3 80/TCP deny a egressDeny[0]`},
	})
}
