package scenario

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// maxSides is how many sorts of hosts the labels of a party may mean.
const maxSides = 16

// ParseParty reads a host's name, an address, or labels such as "app=web,tier=gold".
func ParseParty(s string) (Party, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return Party{}, fmt.Errorf("address %q has a zone, which no policy knows: leave it out", s)
		}
		return Party{Address: a.Unmap()}, nil
	}
	if !strings.Contains(s, "=") {
		damaged := strings.Contains(s, ".") && strings.Trim(s, "0123456789.") == "" // an address that is none
		if err := mesh.ValidateNodeName(s); err != nil || damaged {
			return Party{}, fmt.Errorf("%q is neither a host, nor an address, nor labels such as app=web,tier=gold", s)
		}
		return Party{Host: s}, nil
	}
	var p Party
	for part := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(part, "=")
		source, key := identity.SplitKey(k)
		if !ok || key == "" {
			return Party{}, fmt.Errorf("label %q of %q is malformed: write key=value", part, s)
		}
		p.Labels = append(p.Labels, identity.Requirement{Source: source, Key: key, Operator: identity.In, Values: []string{v}})
	}
	return p, nil
}

// directory finds out who a party is.
type directory struct {
	mesh   Mesh
	byName map[string]*Host
	byAddr map[netip.Addr]*Host
}

func newDirectory(m Mesh) directory {
	d := directory{m, make(map[string]*Host, len(m.Hosts)), make(map[netip.Addr]*Host, 3*len(m.Hosts))}
	for i := range m.Hosts {
		h := &m.Hosts[i]
		d.byName[h.Name] = h
		for _, a := range h.Addresses {
			d.byAddr[a.Unmap()] = h
		}
	}
	return d
}

// sides returns who p may be: one, except for labels.
func (d directory) sides(p Party) ([]side, error) {
	switch {
	case p.Host != "":
		h, known := d.byName[p.Host]
		if !known {
			return nil, fmt.Errorf("host %q does not exist: known are %s", p.Host, d.hostNames())
		}
		return []side{d.ofHost(h)}, nil
	case p.Address.IsValid():
		return []side{d.ofAddress(p.Address.Unmap())}, nil
	case p.Identity != identity.Unknown:
		return []side{d.ofIdentity(p.Identity)}, nil
	}
	return d.ofLabels(p.Labels)
}

func (d directory) ofHost(h *Host) side {
	return side{name: h.Name, as: h.Name, identity: h.Identity, labels: h.Labels, ports: h.NamedPorts, addrs: h.Addresses, host: h, judges: d.own(h.Labels)}
}

func (d directory) ofAddress(a netip.Addr) side {
	s := side{name: a.String()}
	if h, known := d.byAddr[a]; known {
		s = d.ofHost(h)
		s.name = fmt.Sprintf("%s (%s)", a, h.Name)
	} else if id := d.owner(a); id != identity.Unknown {
		s = d.ofIdentity(id)
		s.name = fmt.Sprintf("%s (%s)", a, s.name)
	}
	s.addrs = []netip.Addr{a}
	return s
}

// owner returns the identity of the longest prefix that holds a.
func (d directory) owner(a netip.Addr) mesh.Identity {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if id, known := d.mesh.Owners[netip.PrefixFrom(a, bits).Masked()]; known {
			return id
		}
	}
	return identity.Unknown
}

// ofIdentity returns somebody with the identity. Those of the own mesh are hosts.
func (d directory) ofIdentity(id mesh.Identity) side {
	labels := d.mesh.World.Labels[id]
	if identity.IsReserved(id) {
		labels = identity.ReservedLabels(id)
	}
	name := shortLabels(labels, d.mesh.Cluster)
	return side{
		name: name, as: name, identity: id, labels: labels, ports: d.mesh.World.Ports[id],
		judges: d.own(labels),
	}
}

// own reports whether labels are those of a host of the own mesh.
func (d directory) own(labels identity.Labels) bool {
	cluster, _ := labels.Get(identity.SourceK8s, identity.KeyCluster)
	return cluster == d.mesh.Cluster
}

// ofLabels returns a side for each sort of host that s selects, and for each
// other identity.
func (d directory) ofLabels(s identity.Selector) ([]side, error) {
	var out []side
	sorts := make(map[string]int)
	held := make(map[mesh.Identity]bool)
	for i := range d.mesh.Hosts {
		h := &d.mesh.Hosts[i]
		held[h.Identity] = true
		if !s.Matches(h.Labels) {
			continue
		}
		key := fmt.Sprint(h.Identity, h.NamedPorts, h.Pinholes, h.Disarmed, len(h.Policies))
		if at, known := sorts[key]; known {
			out[at].name = strings.TrimSuffix(out[at].name, ", …") + ", …"
			out[at].as = out[at].name
			out[at].addrs = append(slices.Clip(out[at].addrs), h.Addresses...)
			continue
		}
		sorts[key] = len(out)
		out = append(out, d.ofHost(h))
	}
	for _, id := range slices.Sorted(maps.Keys(d.mesh.World.Labels)) {
		if !held[id] && s.Matches(d.mesh.World.Labels[id]) {
			out = append(out, d.ofIdentity(id))
		}
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("nobody carries the labels %s: see plexus identity list", selectorText(s))
	case len(out) > maxSides:
		return nil, fmt.Errorf("the labels %s mean %d sorts of hosts: add labels, or name a host", selectorText(s), len(out))
	}
	return out, nil
}

func (d directory) hostNames() string {
	const most = 10
	names := slices.Sorted(maps.Keys(d.byName))
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// shortLabels writes labels as people gave them, with namespace and cluster only
// where they are not the usual ones.
func shortLabels(ls identity.Labels, cluster string) string {
	var out []string
	for _, l := range ls {
		switch {
		case l.Source == identity.SourceReserved:
			out = append(out, l.String())
		case l.Key == identity.KeyNamespace && l.Value != identity.DefaultNamespace, l.Key == identity.KeyCluster && l.Value != cluster:
			out = append(out, l.Key+"="+l.Value)
		case !strings.HasPrefix(l.Key, "io.cilium.") && !strings.HasPrefix(l.Key, "io.kubernetes."):
			out = append(out, l.Key+"="+l.Value)
		}
	}
	return cmp.Or(strings.Join(out, ","), "somebody without labels")
}

func selectorText(s identity.Selector) string {
	var out []string
	for _, r := range s {
		out = append(out, r.Key+"="+strings.Join(r.Values, "|"))
	}
	return strings.Join(out, ",")
}
