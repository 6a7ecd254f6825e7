package cilium

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	plexus "github.com/plexusmesh/plexus/policy"
)

// generator makes random policies and peers out of few words, so that they meet.
type generator struct {
	*rand.Rand
	nodes bool // peers are nodes, and no selector of endpoints is written
}

func (g generator) one(in int) bool            { return g.IntN(in) == 0 }
func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }
func (g generator) some(most int, f func() string) string {
	items := make([]string, g.IntN(most)+1)
	for i := range items {
		items[i] = f()
	}
	return "[" + strings.Join(items, ", ") + "]"
}

func (g generator) labels(cluster string) identity.Labels {
	ns := g.pick("default", "prod")
	ls := identity.HostLabels(map[string]string{"app": g.pick("web", "db"), "tier": g.pick("a", "b")}, ns, mesh.Cluster{Name: cluster})
	const meta = "io.cilium.k8s.namespace.labels."
	team := map[string]string{"default": "a", "prod": "b"}[ns]
	ls = append(ls, identity.Label{Source: "k8s", Key: meta + "team", Value: team},
		identity.Label{Source: "k8s", Key: meta + "kubernetes.io/metadata.name", Value: ns})
	return identity.NewLabels(ls...)
}

func (g generator) ports() []mesh.NamedPort {
	var out []mesh.NamedPort
	if !g.one(3) {
		out = append(out, mesh.NamedPort{Name: "http", Port: []uint16{80, 8080}[g.IntN(2)], Protocol: "TCP"})
	}
	if g.one(2) {
		out = append(out, mesh.NamedPort{Name: "dns", Port: 53, Protocol: g.pick("UDP", "TCP")})
	}
	return out
}

func (g generator) subject() plexus.Subject {
	return plexus.Subject{Identity: 1<<16 | 300, Labels: g.labels(localCluster), Cluster: localCluster, Ports: g.ports(), EveryCluster: g.one(3)}
}

func (g generator) world() plexus.World {
	w := plexus.World{Labels: make(map[mesh.Identity]identity.Labels), Ports: make(map[mesh.Identity][]mesh.NamedPort)}
	for n := range mesh.Identity(12) {
		id, cluster := 1<<16|301+n, localCluster
		if n%3 == 0 {
			id, cluster = 2<<16|301+n, otherCluster
		}
		w.Labels[id], w.Ports[id] = g.labels(cluster), g.ports()
	}
	return w
}

var addresses = []netip.Addr{
	netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.2.3"),
	netip.MustParseAddr("10.1.2.200"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
	netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("fe80::1"),
}

// flow returns a flow as Plexus writes it, without its peer.
func (g generator) flow() plexus.Flow {
	f := plexus.Flow{Direction: plexus.Direction(g.IntN(2)), Protocol: []uint8{1, 58, 6, 6, 6, 17, 132, 47, 112}[g.IntN(9)]}
	switch f.Protocol {
	case 1, 58:
		f.Port = []uint16{3, 8, 128, 129}[g.IntN(4)] << 8
	case 6, 17, 132:
		f.Port = []uint16{1, 53, 79, 80, 81, 88, 90, 443, 1023, 1024, 8080, 65535}[g.IntN(12)]
	}
	return f
}

// file returns documents, without markers between them.
func (g generator) file() []string {
	var docs []string
	for i := range g.IntN(4) + 1 {
		if !g.nodes && g.one(4) {
			docs = append(docs, g.kubernetes(fmt.Sprintf("n%d", i)))
			continue
		}
		docs = append(docs, g.policy(fmt.Sprintf("p%d", i)))
	}
	for _, name := range []string{"g1", "g2"} {
		docs = append(docs, fmt.Sprintf("apiVersion: cilium.io/v2\nkind: CiliumCIDRGroup\nmetadata: {name: %s, labels: {team: %s, %s: x}}\nspec: {externalCIDRs: %s}\n",
			name, g.pick("a", "b"), name, g.some(3, g.prefix)))
	}
	return docs
}

func (g generator) policy(name string) string {
	kind, ns, selector := "CiliumClusterwideNetworkPolicy", "", g.pick("endpointSelector", "nodeSelector")
	if g.one(2) {
		kind, ns, selector = "CiliumNetworkPolicy", g.pick("", ", namespace: default", ", namespace: prod"), "endpointSelector"
	}
	head := fmt.Sprintf("apiVersion: cilium.io/v2\nkind: %s\nmetadata: {name: %s%s}\n", kind, name, ns)
	if g.one(3) {
		return head + fmt.Sprintf("specs:\n- %s\n- %s\n", g.spec(selector), g.spec(selector))
	}
	return head + fmt.Sprintf("spec: %s\n", g.spec(selector))
}

func (g generator) spec(selector string) string {
	subject := g.pick("{}", "{}", "{matchLabels: {app: db}}", "{matchLabels: {\"k8s:app\": web}}",
		"{matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}", "{matchExpressions: [{key: \"any:app\", operator: Exists}]}")
	fields := []string{selector + ": " + subject}
	names := []string{"ingress", "ingressDeny", "egress", "egressDeny"}
	g.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:g.IntN(4)+1] {
		fields = append(fields, name+": "+g.some(3, func() string { return g.clause(name) }))
	}
	if g.one(3) {
		fields = append(fields, "enableDefaultDeny: {"+g.pick("ingress", "egress")+": "+g.pick("true", "false")+"}")
	}
	if g.one(8) {
		fields = append(fields, "log: {value: noted}")
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (g generator) clause(section string) string {
	from := "from"
	if strings.HasPrefix(section, "egress") {
		from = "to"
	}
	peers := g.peers(from)
	ports := g.portsOrTypes()
	if peers == "" && ports == "" && strings.HasSuffix(section, "Deny") {
		peers = from + "Entities: [world]"
	}
	return "{" + strings.Trim(peers+", "+ports, ", ") + "}"
}

func (g generator) peers(from string) string {
	endpoints := from + "Endpoints: " + g.some(2, g.selector)
	if g.nodes {
		endpoints = from + "Nodes: " + g.some(2, g.nodeSelector)
	}
	switch g.IntN(8) {
	case 0, 1, 2:
		return endpoints
	case 3:
		return from + "Entities: " + g.some(2, g.entity)
	case 4:
		return from + "CIDR: " + g.some(2, g.prefix)
	case 5:
		return from + "CIDRSet: " + g.some(2, g.cidrRule)
	case 6:
		return from + g.pick("Endpoints", "Entities", "CIDR", "CIDRSet") + ": []"
	}
	return ""
}

func (g generator) entity() string {
	return g.pick("all", "world", "cluster", "cluster-mesh", "host", "remote-node", "kube-apiserver", "ingress", "init", "health", "unmanaged", "none")
}

func (g generator) selector() string {
	source := g.pick("", "", "any:", "k8s:")
	key := source + g.pick("app", "tier", "absent", "io.kubernetes.pod.namespace", "io.cilium.k8s.policy.cluster", "io.cilium.k8s.namespace.labels.team")
	if g.one(6) {
		key = "reserved:" + g.pick("host", "world", "world-ipv4", "world-ipv6", "remote-node", "kube-apiserver", "init", "absent")
	}
	values := g.some(2, func() string { return g.pick("web", "db", "a", "b", "default", "prod", localCluster, otherCluster) })
	switch g.IntN(6) {
	case 0:
		return "{}"
	case 1:
		return fmt.Sprintf("{matchLabels: {%q: %s}}", key, strings.Trim(values[:strings.IndexAny(values, ",]")], "["))
	case 2:
		return fmt.Sprintf("{matchLabels: {app: web}, matchExpressions: [{key: %q, operator: In, values: %s}]}", key, values)
	case 3:
		return fmt.Sprintf("{matchExpressions: [{key: %q, operator: NotIn, values: %s}]}", key, values)
	}
	return fmt.Sprintf("{matchExpressions: [{key: %q, operator: %s}, {key: app, operator: %s}]}", key, g.pick("Exists", "DoesNotExist"), g.pick("Exists", "Exists", "DoesNotExist"))
}

func (g generator) nodeSelector() string {
	return g.pick("{}", "{matchLabels: {app: web}}", "{matchLabels: {app: db, tier: a}}", "{matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}",
		"{matchLabels: {io.cilium.k8s.policy.cluster: other}}", "{matchExpressions: [{key: io.cilium.k8s.policy.cluster, operator: Exists}]}",
		"{matchExpressions: [{key: absent, operator: DoesNotExist}]}")
}

func (g generator) prefix() string {
	return g.pick("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.1.2.77/25", `"::/0"`, `"2001:db8::/32"`, `"2001:db8:1::/48"`)
}

func (g generator) cidrRule() string {
	if g.one(2) {
		return g.pick("{cidrGroupRef: g1}", "{cidrGroupRef: g2, except: [10.1.2.0/24]}", "{cidrGroupRef: absent}",
			"{cidrGroupSelector: {matchLabels: {team: a}}}", "{cidrGroupSelector: {matchExpressions: [{key: g1, operator: Exists}]}}",
			"{cidrGroupSelector: {matchLabels: {team: b}}, except: [10.1.0.0/16]}")
	}
	return g.pick("{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}", "{cidr: 0.0.0.0/0, except: [10.1.2.0/24, 192.0.2.0/24]}",
		"{cidr: 10.1.0.0/16, except: []}", `{cidr: "::/0", except: ["2001:db8::/32"]}`, "{cidr: 0.0.0.0/0, except: [0.0.0.0/0]}",
		"{cidr: 10.1.0.0/16, except: [10.1.2.0/24, 10.1.2.3/32]}")
}

func (g generator) portsOrTypes() string {
	switch {
	case g.one(5):
		return "icmps: [{fields: " + g.some(2, func() string {
			return g.pick("{type: 8}", "{type: EchoRequest}", "{family: IPv4, type: 3}", "{family: IPv6, type: 128}", "{family: IPv6, type: EchoReply}")
		}) + "}]"
	case g.one(2):
		return "toPorts: " + g.some(2, func() string { return "{ports: " + g.some(2, g.port) + "}" })
	}
	return ""
}

func (g generator) port() string {
	protocol := g.pick("", ", protocol: TCP", ", protocol: UDP", ", protocol: SCTP", ", protocol: ANY")
	switch {
	case g.one(5):
		return "{port: " + g.pick("http", "dns", "absent") + protocol + "}"
	case g.one(8):
		return "{port: \"0\", protocol: " + g.pick("GRE", "VRRP", "ESP") + "}"
	}
	return "{" + g.pick(`port: "80"`, `port: "80", endPort: 90`, `port: "1", endPort: 65535`, `port: "0"`, `port: "443", endPort: 0`,
		`port: "81", endPort: 1023`, `port: "1024", endPort: 65535`, `port: "79", endPort: 80`) + protocol + "}"
}
