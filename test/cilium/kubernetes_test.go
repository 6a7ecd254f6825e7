package cilium

import (
	"fmt"
	"strings"
)

// kubernetes returns a NetworkPolicy.
func (g generator) kubernetes(name string) string {
	types := g.pick("[Ingress]", "[Egress]", "[Ingress, Egress]")
	fields := []string{"podSelector: " + g.podSelector(), "policyTypes: " + types}
	if strings.Contains(types, "Ingress") && !g.one(4) {
		fields = append(fields, "ingress: "+g.some(2, func() string { return g.kubernetesRule("from") }))
	}
	if strings.Contains(types, "Egress") && !g.one(4) {
		fields = append(fields, "egress: "+g.some(2, func() string { return g.kubernetesRule("to") }))
	}
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\nspec: {%s}\n",
		name, g.pick("default", "prod"), strings.Join(fields, ", "))
}

func (g generator) kubernetesRule(from string) string {
	var fields []string
	if !g.one(4) {
		fields = append(fields, from+": "+g.some(2, g.kubernetesPeer))
	}
	if g.one(2) {
		fields = append(fields, "ports: "+g.some(2, func() string {
			return g.pick("{port: 80}", "{port: 80, endPort: 90, protocol: TCP}", "{port: 53, protocol: UDP}", "{protocol: SCTP}", "{port: http}", "{port: dns, protocol: UDP}")
		}))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) kubernetesPeer() string {
	namespaces := g.pick("{}", "{matchLabels: {team: a}}", "{matchLabels: {kubernetes.io/metadata.name: prod}}", "{matchExpressions: [{key: team, operator: NotIn, values: [a]}]}")
	switch g.IntN(4) {
	case 0:
		return "{podSelector: " + g.podSelector() + "}"
	case 1:
		return "{namespaceSelector: " + namespaces + "}"
	case 2:
		return "{namespaceSelector: " + namespaces + ", podSelector: " + g.podSelector() + "}"
	}
	return "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}"
}

func (g generator) podSelector() string {
	return g.pick("{}", "{matchLabels: {app: web}}", "{matchLabels: {app: db}}", "{matchExpressions: [{key: tier, operator: In, values: [a]}]}",
		"{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", "{matchLabels: {io.cilium.k8s.policy.cluster: other}}")
}
