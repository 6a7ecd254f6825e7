package policy

import "testing"

func TestPortNames(t *testing.T) {
	tell(t, []story{
		{"of ingress are the judging host's own", clusterwide("a", "endpointSelector: {}, ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: Metrics, protocol: TCP}]}]}]"), `
			db <- web 9100/TCP allow a ingress[0]
			db <- web 9200/TCP deny -
			web <- db 9200/TCP allow
			web <- db 9100/TCP deny
			admin <- web 9100/TCP deny`},
		{"of egress are each peer's own", clusterwide("a", toDB+"egress: [{toEndpoints: [{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}], toPorts: [{ports: [{port: metrics}]}]}]"), `
			db -> web 9200/TCP allow a egress[0]
			db -> web 9200/UDP deny
			db -> web 9100/TCP deny
			db -> pod 8080/TCP allow
			db -> pod 8081/TCP allow
			db -> admin 9200/TCP deny
			db -> 192.0.2.1 9200/TCP deny`},
		{"everybody is each who declares it", clusterwide("a", toDB+`egress: [{toPorts: [{ports: [{port: metrics}, {port: "22"}]}]}, {toEntities: [all], toPorts: [{ports: [{port: pg}]}]}]`), `
			db -> web 9200/TCP allow a egress[0]
			db -> web 22/TCP allow
			db -> 192.0.2.1 22/TCP allow
			db -> 192.0.2.1 9200/TCP deny
			db -> db 5432/TCP allow a egress[1]
			db -> web 5432/TCP deny`},
		{"a name of another protocol, or that nobody declares, is no port", clusterwide("a", toDB+"ingress: [{toPorts: [{ports: [{port: pg, protocol: UDP}, {port: absent}]}]}]"), `
			db <- web 5432/UDP deny -
			db <- web 5432/TCP deny -
			db <- web ICMP deny -`},
		{"denied by name", clusterwide("a", toDB+"ingressDeny: [{fromEndpoints: [{}], toPorts: [{ports: [{port: pg}]}]}], ingress: [{fromEntities: [all]}]"), `
			db <- web 5432/TCP deny a ingressDeny[0]
			db <- web 5433/TCP allow a ingress[0]`},
		{"of NetworkPolicies too", kubernetes("a", podDB+"policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: metrics}]}, {ports: [{port: pg, protocol: UDP}]}]"), `
			db -> web 9200/TCP allow networkpolicy:default/a egress[0]
			db -> web 9100/TCP deny -
			db -> pod 8080/TCP deny -`},
	})
}

func TestNodes(t *testing.T) {
	tell(t, []story{
		{"hosts of every namespace of the mesh", namespaced("default", "a", toDB+"ingress: [{fromNodes: [{}]}]"), `
			db <- web 22/TCP allow default/a ingress[0]
			db <- admin 22/TCP allow
			db <- stage 22/TCP allow
			db <- pod 22/TCP deny
			db <- host 22/TCP deny
			db <- remote-node 22/TCP deny
			db <- 192.0.2.1 22/TCP deny`},
		{"by their labels", clusterwide("a", toDB+"egress: [{toNodes: [{matchLabels: {app: web}}, {matchLabels: {role: admin}}]}]"), `
			db -> web 22/TCP allow
			db -> stage 22/TCP allow
			db -> admin 22/TCP allow
			db -> db 22/TCP deny`},
		{"of another cluster if they name it", namespaced("default", "a", toDB+"ingress: [{fromNodes: [{matchLabels: {io.cilium.k8s.policy.cluster: k8s}}]}]"), `
			db <- pod 22/TCP allow
			db <- web 22/TCP deny`},
		{"and those of clusters that say nothing of their nodes", namespaced("default", "a", toDB+"ingress: [{fromNodes: [{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: DoesNotExist}]}]}]"), `
			db <- remote-node 22/TCP allow
			db <- kube-apiserver 22/TCP allow
			db <- host 22/TCP deny
			db <- 192.0.2.1 22/TCP deny
			db <- web 22/TCP deny`},
		{"every node is a remote node", clusterwide("a", toDB+`ingress: [{fromNodes: [{matchLabels: {"reserved:remote-node": "", app: web}}]}, {fromNodes: [{matchExpressions: [{key: "reserved:remote-node", operator: DoesNotExist}]}]}]`), `
			db <- web 22/TCP allow a ingress[0]
			db <- admin 22/TCP deny -`},
		{"none in the list is nobody", clusterwide("a", toDB+"ingress: [{fromNodes: []}]"), `
			db <- web 22/TCP deny -`},
	})
}

func TestStagedRules(t *testing.T) {
	tell(t, []story{
		{"have no effect, and say what they would do", namespaced("default", "a", toDB+"enforcement: staged, ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]"), `
			db <- admin 22/TCP allow -
			staged db <- admin 22/TCP deny -
			staged db <- web 22/TCP allow default/a ingress[0]
			staged db -> web 22/TCP allow -`},
		{"beside those in force", clusterwide("a", toDB+"ingress: [{fromEntities: [cluster]}]") + clusterwide("b", toDB+"enforcement: staged, ingressDeny: [{fromEndpoints: [{matchLabels: {role: admin}}]}]"), `
			db <- admin 22/TCP allow a ingress[0]
			staged db <- admin 22/TCP deny b ingressDeny[0]
			staged db <- web 22/TCP allow a ingress[0]
			db <- 192.0.2.1 22/TCP deny -`},
	})
}

func TestStagedIsPerRule(t *testing.T) {
	policies := mustParse(t, "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: a}\nspecs:\n- {"+toDB+"enforcement: staged, ingress: [{}]}\n- {endpointSelector: {matchLabels: {app: web}}, enforcement: enforced, ingress: [{}]}\n")
	play(t, policies, `
		db <- web 22/TCP allow -
		staged db <- web 22/TCP deny -
		web <- db 22/TCP deny -`)
	if v := Compile(policies, castSubject("web"), castWorld()); v.Staged != nil {
		t.Error("a host that no staged rule selects has staged verdicts")
	}
}
