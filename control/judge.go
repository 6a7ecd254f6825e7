package control

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
)

// Host is what servers know of an enrolled host for themselves, apart from
// what it claims.
type Host struct {
	Node    string
	Cluster mesh.Cluster
	Mesh4   netip.Addr
	Mesh6   netip.Addr
	Key     mesh.Key     // that it enrolled with
	Port    uint16       // that it enrolled with
	Seen    []netip.Addr // where a server has seen it
	Set     []netip.Addr // that an administrator gave it
	Server  bool
}

// World is everything that the judgement of claims depends on.
type World struct {
	Hosts  map[string]Host       // enrolled, by node
	Claims map[string]mesh.Claim // by the node whose key it was written under
	Facts  map[string]mesh.Node  // what stands, by node
	Pools  []netip.Prefix        // of mesh addresses
}

// Refusal says which part of a claim did not become a fact, and why.
type Refusal struct {
	Field  string // "node", "address", "key", "port", "named-port" or "version"
	Value  string
	Reason string
}

// Judge turns claims into facts, for all enrolled hosts at once. A claim of a
// host that is not enrolled counts for nothing; a host whose claim makes no
// sense, or that claims nothing, keeps what it has.
//
// Of what two hosts claim, the one that has it already keeps it; of what neither
// has, the host whose name sorts first gets it. A key that a host turns away
// from is free only once its new one is a fact, so judge again after a change.
func Judge(w World) (facts map[string]mesh.Node, refused map[string][]Refusal) {
	facts, refused = make(map[string]mesh.Node), make(map[string][]Refusal)
	w.Claims = w.sensible(refused)
	held := w.held()
	for _, name := range slices.Sorted(maps.Keys(w.Hosts)) {
		n, why := w.judge(w.Hosts[name], held)
		facts[name] = n
		if len(why) > 0 {
			refused[name] = why
		}
	}
	return facts, refused
}

// sensible returns the claims that are not void as a whole.
func (w World) sensible(refused map[string][]Refusal) map[string]mesh.Claim {
	out := make(map[string]mesh.Claim)
	for name := range w.Hosts {
		c, claimed := w.Claims[name]
		err := ValidateClaim(c)
		switch {
		case !claimed:
		case c.Node != name:
			refused[name] = []Refusal{{"node", c.Node, "the claim is written by " + name}}
		case err != nil:
			refused[name] = []Refusal{{"node", c.Node, err.Error()}}
		default:
			out[name] = c
		}
	}
	return out
}

// holdings says which host has an address or a key.
type holdings struct {
	addresses map[netip.Addr]string
	keys      map[mesh.Key]string
}

// held collects what is not to be had any more: facts that their hosts are
// still entitled to, addresses that an administrator gave, keys of enrolment.
func (w World) held() holdings {
	h := holdings{make(map[netip.Addr]string), make(map[mesh.Key]string)}
	names := slices.Sorted(maps.Keys(w.Hosts))
	for _, name := range names {
		take(h.keys, w.Hosts[name].Key, name)
		for _, a := range w.Hosts[name].Set {
			take(h.addresses, a, name)
		}
	}
	for _, name := range names {
		take(h.keys, w.Facts[name].Key, name)
		for _, a := range w.Facts[name].Addresses {
			if w.entitled(name, a) {
				take(h.addresses, a, name)
			}
		}
	}
	return h
}

func take[K comparable](held map[K]string, k K, name string) {
	var zero K
	if _, taken := held[k]; !taken && k != zero {
		held[k] = name
	}
}

// entitled reports whether name may keep address a of its fact.
func (w World) entitled(name string, a netip.Addr) bool {
	if c, ok := w.Claims[name]; ok && !slices.Contains(c.Addresses, a) {
		return false
	}
	return w.addressFault(w.Hosts[name], a) == ""
}

func (w World) judge(h Host, held holdings) (mesh.Node, []Refusal) {
	n := mesh.Node{
		Name: h.Node, Cluster: h.Cluster, Mesh4: h.Mesh4, Mesh6: h.Mesh6, Server: h.Server,
		Key: h.Key, Port: h.Port, Addresses: slices.Clone(h.Set),
	}
	c, claimed := w.Claims[h.Node]
	if fact, stands := w.Facts[h.Node]; stands {
		n.Key, n.Port, n.Version, n.NamedPorts = cmp.Or(fact.Key, h.Key), cmp.Or(fact.Port, h.Port), fact.Version, fact.NamedPorts
		if !claimed {
			n.Addresses = union(h.Set, keep(fact.Addresses, func(a netip.Addr) bool { return held.addresses[a] == h.Node }))
			n.Direct = keep(fact.Direct, func(a netip.Addr) bool { return slices.Contains(n.Addresses, a) })
		}
	}
	if !claimed {
		return n, nil
	}
	n.Port, n.Version = c.Port, c.Version
	var refused []Refusal
	if reason := keyFault(h, c.Key, held); reason == "" {
		n.Key = c.Key
	} else {
		refused = append(refused, Refusal{"key", c.Key.String(), reason})
	}
	accepted, why := w.addresses(h, c.Addresses, held)
	n.Addresses = union(accepted, h.Set)
	n.Direct = keep(accepted, func(a netip.Addr) bool { return slices.Contains(c.Direct, a) })
	ports, whyPorts := namedPorts(c.NamedPorts)
	n.NamedPorts = ports
	return n, slices.Concat(refused, why, whyPorts)
}

// namedPorts returns the ports that a host may declare, sorted. Nobody else can
// have a say in them: they name ports of the host's own entries alone.
func namedPorts(claimed []mesh.NamedPort) (accepted []mesh.NamedPort, refused []Refusal) {
	for _, p := range slices.SortedFunc(slices.Values(claimed), mesh.NamedPort.Compare) {
		reason := ""
		if err := p.Validate(); err != nil {
			reason = err.Error()
		} else if slices.ContainsFunc(accepted, p.Same) {
			reason = "the host declares this name twice"
		}
		if reason != "" {
			refused = append(refused, Refusal{"named-port", fmt.Sprintf("%s=%d/%s", p.Name, p.Port, p.Protocol), reason})
			continue
		}
		accepted = append(accepted, p)
	}
	return accepted, refused
}

func keyFault(h Host, k mesh.Key, held holdings) string {
	if k.IsZero() {
		return "the key is empty"
	}
	if by, taken := held.keys[k]; taken && by != h.Node {
		return "host " + by + " has this key"
	}
	held.keys[k] = h.Node
	return ""
}

func (w World) addresses(h Host, claimed []netip.Addr, held holdings) (accepted []netip.Addr, refused []Refusal) {
	for _, a := range claimed {
		a = a.Unmap()
		reason := w.addressFault(h, a)
		if by, taken := held.addresses[a]; reason == "" && taken && by != h.Node {
			reason = "host " + by + " has this address"
		}
		if reason != "" {
			refused = append(refused, Refusal{"address", a.String(), reason})
			continue
		}
		held.addresses[a] = h.Node
		accepted = union(accepted, []netip.Addr{a})
	}
	return accepted, refused
}

// addressFault says why a cannot be a node address of h, whoever else wants it.
func (w World) addressFault(h Host, a netip.Addr) string {
	inPool := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case slices.ContainsFunc(w.Pools, inPool):
		return "it is a mesh address"
	case !a.IsGlobalUnicast() || a.Zone() != "" || a.Is4In6():
		return "it is no unicast address that other hosts can reach"
	case !slices.Contains(h.Seen, a) && !slices.Contains(h.Set, a):
		return "no server has seen the host at it, and no administrator set it"
	}
	return ""
}

func keep[T any](in []T, ok func(T) bool) []T {
	var out []T
	for _, v := range in {
		if ok(v) {
			out = append(out, v)
		}
	}
	return out
}

// union returns a followed by what b adds, without repetition.
func union(a, b []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, v := range slices.Concat(a, b) {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}
