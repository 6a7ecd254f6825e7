package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Parse reads a file of policy tests. name is for messages. The error holds every
// problem found, each a *policy.Problem, in order of lines.
func Parse(name string, data []byte) (*File, error) {
	d := &decoder{file: name}
	f := fileDecoder{decoder: d, file: &File{Name: name, Mesh: Mesh{Cluster: DefaultCluster}}, people: newPeople()}
	if root := d.root(data); root != nil {
		f.read(root)
	}
	if err := d.err(); err != nil {
		return nil, err
	}
	return f.file, nil
}

// fileDecoder fills a File.
type fileDecoder struct {
	*decoder
	file   *File
	people people
	owners map[netip.Addr]string // of addresses of hosts
	known  directory             // once hosts are read
	names  map[string]int        // of tests, with their lines
}

// read goes over the document twice: what tests mean depends on the mesh's name
// and hosts, wherever in the file they stand.
func (d *fileDecoder) read(root *yaml.Node) {
	local := true
	var hosts, tests *yaml.Node
	keep := func(into **yaml.Node) reader { return func(n *yaml.Node, _ string) { *into = n } }
	d.object(root, "", map[string]reader{
		"cluster":             parsed(d.decoder, &d.file.Mesh.Cluster, validated(mesh.ValidateClusterName)),
		"defaultLocalCluster": d.truth(&local),
		"hosts":               keep(&hosts),
		"tests":               keep(&tests),
	})
	d.file.Mesh.EveryCluster = !local
	d.file.Mesh.World = d.people.world
	d.owners, d.names = make(map[netip.Addr]string), make(map[string]int)
	if hosts != nil {
		for _, kv := range d.pairs(hosts, "hosts") {
			d.host(kv[0], kv[1], join("hosts", kv[0].Value))
		}
	}
	d.known = newDirectory(d.file.Mesh)
	if tests != nil {
		d.list(tests, "tests", d.test)
	}
	if len(d.file.Tests) == 0 && len(d.problems) == 0 {
		d.refuse(root.Line, "tests", "holds no test: write at least one")
	}
}

// validated makes a parser of a check.
func validated(check func(string) error) func(string) (string, error) {
	return func(s string) (string, error) { return s, check(s) }
}

// host reads one of hosts.
func (d *fileDecoder) host(key, n *yaml.Node, path string) {
	h := Host{Name: key.Value, Pinholes: map[datapath.Pinhole]string{}}
	if err := mesh.ValidateNodeName(h.Name); err != nil {
		d.refuse(key.Line, path, "host name %.60q is malformed: use at most 63 lower-case letters, digits, inner dashes and dots", h.Name)
	}
	w := d.newWho()
	fields := w.fields()
	fields["addresses"] = func(n *yaml.Node, path string) {
		d.list(n, path, func(n *yaml.Node, path string) {
			var a netip.Addr
			parsed(d.decoder, &a, parseAddress)(n, path)
			h.Addresses = append(h.Addresses, a)
		})
	}
	fields["ports"] = func(n *yaml.Node, path string) {
		d.list(n, path, func(n *yaml.Node, path string) {
			var p mesh.NamedPort
			parsed(d.decoder, &p, parseNamedPort)(n, path)
			h.NamedPorts = append(h.NamedPorts, p)
		})
	}
	d.object(n, path, fields)
	h.Labels = w.labels()
	h.Identity = d.people.is(h.Labels)
	d.people.world.Ports[h.Identity] = append(d.people.world.Ports[h.Identity], h.NamedPorts...)
	d.file.Mesh.Hosts = append(d.file.Mesh.Hosts, h)
	for _, a := range h.Addresses {
		if owner, taken := d.owners[a]; taken {
			d.refuse(n.Line, join(path, "addresses"), "%s is an address of %s already: give it to one host", a, owner)
		}
		d.owners[a] = h.Name
	}
}

// test reads one of tests.
func (d *fileDecoder) test(n *yaml.Node, path string) {
	before := len(d.problems)
	t := Test{Line: n.Line}
	var rule string
	var icmp icmp
	given := make(map[string]bool)
	fields := map[string]reader{
		"name":      parsed(d.decoder, &t.Name, validated(nonEmpty)),
		"from":      d.party(&t.Question.From),
		"to":        d.party(&t.Question.To),
		"port":      parsed(d.decoder, &t.Question.Flow, ParsePort),
		"icmp":      d.icmp(&icmp),
		"family":    parsed(d.decoder, &icmp.family, validated(nonEmpty)),
		"expect":    parsed(d.decoder, &t.Expected, parseVerdict),
		"direction": parsed(d.decoder, &t.Question.Skip, parseDirection),
		"staged":    d.truth(&t.Question.Staged),
		"rule":      parsed(d.decoder, &rule, parseRule),
	}
	for name, read := range fields {
		fields[name] = func(n *yaml.Node, path string) { given[name] = true; read(n, path) }
	}
	d.object(n, path, fields)
	if given["rule"] {
		t.Rule = &rule
	}
	if given["icmp"] {
		t.Question.Flow = d.icmpFlow(icmp, n.Line, path)
	}
	d.whole(n, path, given, len(d.problems) == before)
	if len(d.problems) == before {
		d.checkPort(path, t)
	}
	if first, dup := d.names[t.Name]; dup && t.Name != "" {
		d.refuse(n.Line, join(path, "name"), "%q is the name of the test in line %d already: give each its own", t.Name, first)
	}
	d.names[t.Name] = n.Line
	d.file.Tests = append(d.file.Tests, t)
}

// whole reports fields that a test lacks, unless it is damaged anyway.
func (d *fileDecoder) whole(n *yaml.Node, path string, given map[string]bool, sound bool) {
	if !sound {
		return
	}
	for _, name := range []string{"name", "from", "to", "expect"} {
		if !given[name] {
			d.refuse(n.Line, join(path, name), "is missing: %s", remedies[name])
		}
	}
	if given["port"] == given["icmp"] {
		d.refuse(n.Line, path, "wants either port, such as 443/TCP, or icmp, such as {type: EchoRequest}")
	}
	if given["family"] && !given["icmp"] {
		d.refuse(n.Line, join(path, "family"), "is of icmp alone: leave it out")
	}
}

var remedies = map[string]string{
	"name":   "give the test a name of its own",
	"from":   "say where the flow begins: {labels: …}, {ip: …} or {host: …}",
	"to":     "say where the flow ends: {labels: …}, {ip: …} or {host: …}",
	"expect": "write allow or deny",
}

// checkPort finds a port name that the receiving side does not declare.
func (d *fileDecoder) checkPort(path string, t Test) {
	to, err := d.known.sides(t.Question.To)
	if err != nil || t.Question.Flow.Name == "" {
		return // what it is was refused already
	}
	if _, err := t.Question.Flow.at(to[0]); err != nil {
		d.refuse(t.Line, join(path, "port"), "%s, or declare it under hosts", err)
	}
}

func nonEmpty(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("is empty: give the test a name of its own")
	}
	return nil
}

func parseVerdict(s string) (Verdict, error) {
	if v := Verdict(s); v == Allow || v == Deny {
		return v, nil
	}
	return "", fmt.Errorf("%.60q is no verdict: write allow or deny", s)
}

func parseDirection(s string) (skip [2]bool, err error) {
	switch s {
	case "both":
	case "ingress":
		skip[policy.Egress] = true
	case "egress":
		skip[policy.Ingress] = true
	default:
		err = fmt.Errorf("%.60q is no direction: write egress to judge where the flow begins alone, ingress where it ends, or both", s)
	}
	return skip, err
}

// parseRule reads the rule that is expected; "-" is none.
func parseRule(s string) (string, error) {
	switch s {
	case "":
		return "", errors.New(`is empty: write "POLICY SECTION", such as "default/db ingress[0]", a policy alone, or "-" for no rule`)
	case "-":
		return "", nil
	}
	return s, nil
}

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%.60q is not an address: write it as 192.0.2.1 or 2001:db8::1", s)
	}
	return a.Unmap(), nil
}

// parseNamedPort reads "pg=5432/TCP".
func parseNamedPort(s string) (mesh.NamedPort, error) {
	name, port, ok := strings.Cut(s, "=")
	f, err := ParsePort(port)
	if !ok || err != nil || f.Name != "" || f.Port == 0 || !policy.ValidPortName(name) {
		return mesh.NamedPort{}, fmt.Errorf("%.60q is no named port: write it as pg=5432/TCP, with TCP, UDP or SCTP", s)
	}
	return mesh.NamedPort{Name: name, Port: f.Port, Protocol: policy.ProtocolName(f.Protocol)}, nil
}

// icmp is a type of ICMP as written: {type: 8, family: IPv4}, with family also
// beside icmp.
type icmp struct{ family, kind string }

func (d *fileDecoder) icmp(into *icmp) reader {
	return func(n *yaml.Node, path string) {
		d.object(n, path, map[string]reader{
			"family": parsed(d.decoder, &into.family, validated(nonEmpty)),
			"type": func(n *yaml.Node, path string) {
				if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
					into.kind = n.Value
					return
				}
				into.kind, _ = d.text(n, path)
			},
		})
	}
}

func (d *fileDecoder) icmpFlow(i icmp, line int, path string) Flow {
	protocol, port, err := policy.ParseICMP(cmp.Or(i.family, "IPv4"), i.kind)
	if err != nil {
		d.refuse(line, join(path, "icmp"), "%s", err)
	}
	return Flow{Protocol: protocol, Port: port}
}

// who gathers the labels of somebody.
type who struct {
	d                  *fileDecoder
	given              map[string]string
	namespace, cluster string
	extra              []identity.Label
}

func (d *fileDecoder) newWho() *who {
	return &who{d: d, given: make(map[string]string), namespace: identity.DefaultNamespace, cluster: d.file.Mesh.Cluster}
}

// fields reads labels, namespace and cluster.
func (w *who) fields() map[string]reader {
	d := w.d.decoder
	return map[string]reader{
		"labels": func(n *yaml.Node, path string) {
			for _, kv := range d.pairs(n, path) {
				w.label(kv[0], kv[1], join(path, kv[0].Value))
			}
		},
		"namespace": parsed(d, &w.namespace, validated(identity.ValidateNamespace)),
		"cluster":   parsed(d, &w.cluster, validated(mesh.ValidateClusterName)),
	}
}

func (w *who) label(key, n *yaml.Node, path string) {
	value, ok := w.d.text(n, path)
	source, name := identity.SplitKey(key.Value)
	err := identity.ValidateLabel(name, value)
	switch {
	case !ok:
	case source == identity.SourceReserved || source == identity.SourceCIDR:
		w.d.refuse(key.Line, path, "nobody is given a label %s: write an ip for somebody outside the mesh", key.Value)
	case name == identity.KeyNamespace:
		w.namespace = value
	case name == identity.KeyCluster:
		w.cluster = value
	case strings.HasPrefix(name, "io.cilium.k8s.") && value != "":
		w.extra = append(w.extra, identity.Label{Source: identity.SourceK8s, Key: name, Value: value})
	case err != nil:
		w.d.refuse(key.Line, path, "%s", err)
	default:
		w.given[name] = value
	}
}

func (w *who) labels() identity.Labels {
	ls := identity.HostLabels(w.given, w.namespace, mesh.Cluster{Name: w.cluster})
	return identity.NewLabels(append(ls, w.extra...)...)
}

// party reads {labels: …}, {ip: …} or {host: …}.
func (d *fileDecoder) party(into *Party) reader {
	return func(n *yaml.Node, path string) {
		w := d.newWho()
		fields := w.fields()
		var p Party
		var by []string
		for _, name := range []string{"labels", "ip", "host"} {
			read := map[string]reader{
				"labels": fields["labels"],
				"ip":     parsed(d.decoder, &p.Address, parseAddress),
				"host":   parsed(d.decoder, &p.Host, d.knownHost),
			}[name]
			fields[name] = func(n *yaml.Node, path string) { by = append(by, name); read(n, path) }
		}
		d.object(n, path, fields)
		if len(by) != 1 {
			d.refuse(n.Line, path, "wants one of labels, ip and host, and has %d of them", len(by))
			return
		}
		if by[0] == "labels" {
			p.Identity = d.people.is(w.labels())
		}
		*into = p
	}
}

func (d *fileDecoder) knownHost(s string) (string, error) {
	if d.known.byName[s] == nil {
		return "", fmt.Errorf("host %.60q is not among hosts: describe it there, or write labels", s)
	}
	return s, nil
}
