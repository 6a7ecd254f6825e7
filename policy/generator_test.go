package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// generator makes random policies out of few words, so that they meet.
type generator struct {
	*rand.Rand
	wide bool // draw from all of the language
}

func (g generator) one(in int) bool            { return g.IntN(in) == 0 }
func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }
func (g generator) some(n int, f func() string) string {
	items := make([]string, g.IntN(n)+1)
	for i := range items {
		items[i] = f()
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// rarely is one in n of wide cases. It draws nothing in others.
func (g generator) rarely(n int) bool { return g.wide && g.one(n) }

func (g generator) namedPorts() []mesh.NamedPort {
	var out []mesh.NamedPort
	for range g.IntN(3) {
		port := []uint16{79, 80, 443, 1024}[g.IntN(4)]
		out = append(out, mesh.NamedPort{Name: g.pick("http", "https", "Web-1"), Port: port, Protocol: g.pick("TCP", "UDP", "SCTP")})
	}
	return out
}

func (g generator) hostLabels() identity.Labels {
	given := map[string]string{"app": g.pick("web", "db"), "tier": g.pick("a", "b")}
	ls := identity.HostLabels(given, g.pick("default", "prod"), mesh.Cluster{Name: g.pick("mesh", "mesh", "other")})
	return identity.NewLabels(append(ls, identity.Label{Source: "k8s", Key: "io.cilium.k8s.namespace.labels.team", Value: g.pick("a", "b")})...)
}

func (g generator) world() map[mesh.Identity]identity.Labels {
	out := make(map[mesh.Identity]identity.Labels)
	for n := range mesh.Identity(12) {
		out[1<<16|300+n] = g.hostLabels()
	}
	return out
}

func (g generator) peers(v Verdicts, world map[mesh.Identity]identity.Labels) []peer {
	var out []peer
	for _, id := range slices.Sorted(maps.Keys(world)) {
		out = append(out, peer{identity: id, labels: toMap(world[id])})
	}
	for id := identity.Host; id <= identity.WorldIPv6; id++ {
		if id != identity.WorldIPv4 && id != identity.WorldIPv6 {
			out = append(out, peer{identity: id, labels: toMap(identity.ReservedLabels(id))})
		}
	}
	for _, a := range []string{"10.0.0.1", "10.1.0.1", "10.1.2.3", "10.1.2.200", "192.0.2.1", "2001:db8::1", "2001:db8:1::1", "fe80::1"} {
		addr := netip.MustParseAddr(a)
		labels := map[string]string{"reserved:world": "", "reserved:world-ipv4": ""}
		if addr.Is6() {
			labels = map[string]string{"reserved:world": "", "reserved:world-ipv6": ""}
		}
		out = append(out, peer{address: addr, identity: kernelIdentity(v, addr), labels: labels})
	}
	return out
}

func (g generator) flow(id mesh.Identity) Flow {
	f := Flow{Peer: id, Direction: Direction(g.IntN(2)), Protocol: []uint8{1, 6, 6, 17, 132, 47}[g.IntN(6)]}
	switch {
	case g.rarely(4):
		f.Protocol, f.Port = []uint8{1, 58}[g.IntN(2)], ICMPType([]uint8{0, 1, 8, 128, 129, 255}[g.IntN(6)])|uint16(g.IntN(2))
	case f.Protocol != 1 && f.Protocol != 47:
		f.Port = []uint16{0, 1, 79, 80, 81, 88, 90, 443, 1023, 1024, 65535}[g.IntN(11)]
	}
	return f
}

func (g generator) file() string {
	var b strings.Builder
	if g.rarely(2) {
		b.WriteString(groupDocument("office", g.pick("", "site: a", "site: b"), g.pick("10.1.0.0/16", `192.0.2.0/24, "2001:db8::/32"`, "")))
		b.WriteString(groupDocument("lab", g.pick("", "site: a"), g.pick("10.0.0.0/8", "10.1.2.0/24, fe80::/10")))
	}
	for i := range g.IntN(5) + 1 {
		if g.rarely(4) {
			b.WriteString(kubernetes(fmt.Sprintf("p%d%s", i, g.pick("", ", namespace: prod")), g.networkPolicy()))
			continue
		}
		kind, ns, selector := Clusterwide, "", g.pick("endpointSelector", "nodeSelector")
		if g.one(2) {
			kind, ns, selector = Namespaced, ", namespace: "+g.pick("default", "prod"), "endpointSelector"
		}
		fmt.Fprintf(&b, "---\napiVersion: cilium.io/v2\nkind: %s\nmetadata: {name: p%d%s}\n", kind, i, ns)
		if g.one(3) {
			fmt.Fprintf(&b, "specs:\n- %s\n- %s\n", g.spec(selector), g.spec(selector))
		} else {
			fmt.Fprintf(&b, "spec: %s\n", g.spec(selector))
		}
	}
	return b.String()
}

func (g generator) spec(selector string) string {
	subject := g.pick("{}", "{matchLabels: {app: db}}", "{matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}")
	fields := []string{selector + ": " + subject}
	names := []string{"ingress", "ingressDeny", "egress", "egressDeny"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:g.IntN(4)+1] {
		fields = append(fields, name+": "+g.some(3, func() string { return g.clause(name) }))
	}
	if g.one(4) {
		fields = append(fields, "enableDefaultDeny: {"+g.pick("ingress", "egress")+": "+g.pick("true", "false")+"}")
	}
	if g.rarely(4) {
		fields = append(fields, "enforcement: "+g.pick("staged", "staged", "enforced"))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) clause(section string) string {
	from := "from"
	if strings.HasPrefix(section, "egress") {
		from = "to"
	}
	var fields []string
	switch g.IntN(6) {
	case 0:
		fields = append(fields, from+"Endpoints: "+g.some(2, g.selector))
	case 1:
		fields = append(fields, from+"Entities: "+g.some(2, func() string { return string(entities[g.IntN(len(entities))]) }))
	case 2:
		fields = append(fields, from+"CIDR: "+g.some(2, g.cidr))
	case 3:
		fields = append(fields, from+"CIDRSet: "+g.some(2, g.cidrRule))
	case 4:
		fields = append(fields, from+g.pick("Endpoints", "Entities", "CIDR", "CIDRSet")+": []")
	}
	if len(fields) == 0 && g.rarely(2) {
		fields = append(fields, from+"Nodes: "+g.some(2, g.selector))
	}
	if g.rarely(5) {
		fields = append(fields, "icmps: "+g.some(2, func() string { return "{fields: " + g.some(2, g.icmp) + "}" }))
		return "{" + strings.Join(fields, ", ") + "}"
	}
	if g.one(2) || len(fields) == 0 && strings.HasSuffix(section, "Deny") {
		fields = append(fields, "toPorts: "+g.some(2, func() string { return "{ports: " + g.some(2, g.port) + "}" }))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) selector() string {
	if g.rarely(6) {
		return g.pick("{matchExpressions: [{key: io.kubernetes.pod.namespace, operator: NotIn, values: [prod]}]}",
			`{matchExpressions: [{key: "reserved:remote-node", operator: Exists}]}`, `{matchLabels: {"reserved:remote-node": x}}`,
			`{matchExpressions: [{key: world, operator: Exists}]}`, "{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: DoesNotExist}]}",
			"{matchExpressions: [{key: any:io.cilium.k8s.policy.cluster, operator: NotIn, values: [mesh]}, {key: io.cilium.k8s.namespace.labels.team, operator: DoesNotExist}]}")
	}
	return g.pick("{}", "{matchLabels: {app: web}}", "{matchLabels: {k8s:tier: a, app: db}}",
		"{matchLabels: {io.kubernetes.pod.namespace: prod}}", "{matchLabels: {k8s:io.cilium.k8s.policy.cluster: other}}",
		"{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
		"{matchExpressions: [{key: tier, operator: In, values: [b, a]}]}",
		"{matchExpressions: [{key: absent, operator: DoesNotExist}, {key: app, operator: Exists}]}",
		"{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}, {key: io.kubernetes.pod.namespace, operator: Exists}]}",
		"{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: DoesNotExist}, {key: io.kubernetes.pod.namespace, operator: DoesNotExist}]}",
		"{matchLabels: {io.cilium.k8s.namespace.labels.team: a}}",
		"{matchLabels: {\"reserved:world\": \"\"}}", "{matchExpressions: [{key: \"reserved:world-ipv6\", operator: DoesNotExist}]}")
}

func (g generator) cidr() string {
	return g.pick("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "10.1.2.77/25", `"::/0"`, `"2001:db8::/32"`, `"2001:db8:1::/48"`)
}

func (g generator) cidrRule() string {
	if g.rarely(2) {
		except := g.pick("", "", ", except: [10.1.2.0/24]", ", except: [10.0.0.0/8]", ", except: [192.0.2.0/28, 10.1.0.0/16]")
		return "{" + g.pick("cidrGroupRef: office", "cidrGroupRef: lab", "cidrGroupRef: absent", "cidrGroupSelector: {matchLabels: {site: a}}",
			"cidrGroupSelector: {matchExpressions: [{key: site, operator: Exists}, {key: site, operator: NotIn, values: [b]}]}") + except + "}"
	}
	return g.pick("{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}", "{cidr: 0.0.0.0/0, except: [10.1.2.0/24, 192.0.2.0/24]}",
		"{cidr: 10.1.0.0/16, except: []}", `{cidr: "::/0", except: ["2001:db8::/32"]}`, "{cidr: 0.0.0.0/0, except: [0.0.0.0/0]}")
}

func (g generator) port() string {
	if g.rarely(3) {
		return "{" + g.pick("port: http", "port: HTTPS", "port: web-1", "port: absent") + g.pick("", ", protocol: TCP", ", protocol: UDP", ", protocol: ANY") + "}"
	}
	if g.rarely(8) {
		return "{" + g.pick("", `port: "0", `) + "protocol: " + g.pick("GRE", "vrrp", "ESP", "AH", "IGMP", "IPIP", "IPV6") + "}"
	}
	protocol := g.pick("", ", protocol: TCP", ", protocol: UDP", ", protocol: SCTP", ", protocol: ANY")
	ports := g.pick(`port: "80"`, `port: "80", endPort: 90`, `port: "1", endPort: 65535`, `port: "0"`, `port: "443", endPort: 0`,
		`port: "81", endPort: 1023`, `port: "1024", endPort: 65535`, `port: "79", endPort: 80`)
	return "{" + ports + protocol + "}"
}

func (g generator) icmp() string {
	return g.pick("{type: 8}", "{type: EchoReply, family: IPv4}", "{type: 128, family: IPv6}", "{type: EchoReply, family: IPv6}",
		"{type: \"255\"}", "{type: DestinationUnreachable, family: IPv6}")
}

// networkPolicy returns the spec of a NetworkPolicy.
func (g generator) networkPolicy() string {
	fields := []string{"podSelector: " + g.pick("{}", "{matchLabels: {app: db}}")}
	types := g.pick("", "Ingress", "Egress", "Ingress, Egress")
	if types != "" {
		fields = append(fields, "policyTypes: ["+types+"]")
	}
	if types != "Egress" && !g.one(4) {
		fields = append(fields, "ingress: "+g.kubernetesRules("from"))
	}
	switch {
	case strings.HasSuffix(types, "Egress") && !g.one(4):
		fields = append(fields, "egress: "+g.kubernetesRules("to"))
	case types == "" && g.one(2):
		fields = append(fields, "egress: "+g.some(2, func() string { return g.kubernetesRule("to") }))
	}
	return strings.Join(fields, ", ")
}

func (g generator) kubernetesRules(from string) string {
	if g.one(6) {
		return "[]"
	}
	return g.some(2, func() string { return g.kubernetesRule(from) })
}

func (g generator) kubernetesRule(from string) string {
	var fields []string
	if !g.one(4) {
		peers := "[]"
		if !g.one(6) {
			peers = g.some(3, g.kubernetesPeer)
		}
		fields = append(fields, from+": "+peers)
	}
	if g.one(2) {
		fields = append(fields, "ports: "+g.some(2, func() string {
			return "{" + g.pick("port: 80", "port: 80, endPort: 90", "port: http", "protocol: UDP", "port: 443, protocol: SCTP") + "}"
		}))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) kubernetesPeer() string {
	return g.pick("{podSelector: {}}", "{podSelector: {matchLabels: {app: web}}}", "{namespaceSelector: {}}",
		"{namespaceSelector: {matchLabels: {team: a}}}", "{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [a]}]}}",
		"{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: prod}}, podSelector: {matchLabels: {app: db}}}",
		"{podSelector: {matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}}",
		"{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}", `{ipBlock: {cidr: "::/0"}}`)
}
