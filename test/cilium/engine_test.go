package cilium

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	ipcachetypes "github.com/cilium/cilium/pkg/ipcache/types"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	testpolicy "github.com/cilium/cilium/pkg/testutils/policy"
	pkgtypes "github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"

	plexusid "github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	plexus "github.com/plexusmesh/plexus/policy"
)

// engine is Cilium's verdicts for one endpoint.
type engine struct {
	policy   *policy.EndpointPolicy
	prefixes map[netip.Prefix]identity.NumericIdentity
}

// newEngine has Cilium resolve documents for an endpoint with the identity of
// subject, among endpoints with the identities of world.
func newEngine(docs []document, subject plexus.Subject, world plexus.World) (engine, error) {
	e := engine{prefixes: make(map[netip.Prefix]identity.NumericIdentity)}
	ids := make(identity.IdentityMap)
	for id, ls := range world.Labels {
		ids[identity.NumericIdentity(id)] = toCilium(ls.Strings())
		ids[asNode(id)] = labelsOfNode(ls)
	}
	for p, ls := range labelsOfPrefixes(docs) {
		n := identity.IdentityScopeLocal + identity.NumericIdentity(len(e.prefixes)+1)
		e.prefixes[p], ids[n] = n, ls
	}
	self := identity.NewIdentity(identity.NumericIdentity(subject.Identity), toCilium(subject.Labels.Strings()).Labels())
	ids[self.ID] = self.LabelArray

	repo := policy.NewPolicyRepository(quiet, identity.ListReservedIdentities(), nil, nil,
		identitymanager.NewIDManager(quiet), testpolicy.NewPolicyMetricsNoop())
	ports, err := newNamedPorts(world.Ports)
	if err != nil {
		return engine{}, err
	}
	repo.SetNamedPortsGetter(ports)
	repo.UpdateIdentities(ids, nil)
	repo.GetSelectorCache().UpdateIdentities(ids, nil, &sync.WaitGroup{})
	for _, d := range docs {
		if d.entries != nil {
			repo.ReplaceByResource(d.entries, ipcachetypes.NewResourceID(resourceKinds[d.kind], d.namespace, d.name))
		}
	}
	resolved, _, err := repo.ComputeSelectorPolicy(self)
	if err != nil {
		return engine{}, err
	}
	e.policy = resolved.DistillPolicy(quiet, owner(subject.Ports), nil)
	return e, nil
}

var resourceKinds = map[plexus.Kind]ipcachetypes.ResourceKind{
	"CiliumNetworkPolicy":            ipcachetypes.ResourceKindCNP,
	"CiliumClusterwideNetworkPolicy": ipcachetypes.ResourceKindCCNP,
	"NetworkPolicy":                  ipcachetypes.ResourceKindNetpol,
}

func toCilium(ls []string) labels.LabelArray { return labels.ParseLabelArray(ls...) }

// asNode returns the identity that Cilium gives the host with an identity as a
// node, as which it is not an endpoint.
func asNode(id mesh.Identity) identity.NumericIdentity {
	return identity.IdentityScopeRemoteNode | identity.NumericIdentity(id)
}

// labelsOfNode returns the labels of a node with those of a host, as Cilium has
// them with node labels enabled.
func labelsOfNode(ls plexusid.Labels) labels.LabelArray {
	out := labels.LabelArray{labels.ParseLabel("reserved:remote-node")}
	for _, l := range ls {
		switch l.Key {
		case plexusid.KeyCluster:
			out = append(out, labels.NewLabel(l.Key, l.Value, labels.LabelSourceK8s))
		case plexusid.KeyNamespace, plexusid.KeyServiceAccount: // of endpoints alone
		default:
			out = append(out, labels.NewLabel(l.Key, l.Value, labels.LabelSourceNode))
		}
	}
	return out.Sort()
}

// allows looks a flow up as Cilium's datapath does. port is the type of an ICMP
// message, and not 0.
func (e engine) allows(peer identity.NumericIdentity, dir plexus.Direction, protocol uint8, port uint16) bool {
	key := policy.IngressKey()
	if dir == plexus.Egress {
		key = policy.EgressKey()
	}
	entry, _, _ := e.policy.Lookup(key.WithIdentity(peer).WithPortProto(u8proto.U8proto(protocol), port))
	return !entry.IsDeny()
}

// identify returns the identity of an address outside every cluster.
func (e engine) identify(a netip.Addr) identity.NumericIdentity {
	for bits := a.BitLen(); bits >= 0; bits-- {
		p, _ := a.Prefix(bits) // bits are in range
		if id, ok := e.prefixes[p]; ok {
			return id
		}
	}
	if a.Is4() {
		return identity.ReservedIdentityWorldIPv4
	}
	return identity.ReservedIdentityWorldIPv6
}

// labelsOfPrefixes returns the labels of every prefix that documents name, as
// Cilium's ipcache merges them: those of a broader prefix hold too, but of the
// CIDR labels the longest alone.
func labelsOfPrefixes(docs []document) map[netip.Prefix]labels.LabelArray {
	own := make(map[netip.Prefix]labels.Labels)
	for _, d := range docs {
		for _, p := range policy.GetCIDRPrefixes(d.entries) {
			own[p.Masked()] = merge(own[p.Masked()], labels.GetCIDRLabels(p.Masked()))
		}
	}
	for _, d := range docs {
		if d.group == nil {
			continue
		}
		for _, c := range d.group.Spec.ExternalCIDRs {
			p := netip.MustParsePrefix(string(c)).Masked()
			own[p] = merge(own[p], labelsOfGroup(d.name, d.group.Labels))
		}
	}
	out := make(map[netip.Prefix]labels.LabelArray, len(own))
	for p := range own {
		all := make(labels.Labels)
		for bits := p.Bits(); bits >= 0; bits-- {
			broader, _ := p.Addr().Prefix(bits) // bits are in range
			all = merge(all, own[broader])
		}
		all.AddWorldLabel(p.Addr())
		out[p] = all.LabelArray()
	}
	return out
}

func merge(into, from labels.Labels) labels.Labels {
	out := maps.Clone(into)
	if out == nil {
		out = make(labels.Labels)
	}
	hasCIDR := out.HasSource(labels.LabelSourceCIDR)
	for k, l := range from {
		if _, taken := out[k]; !taken && (!hasCIDR || l.Source != labels.LabelSourceCIDR) {
			out[k] = l
		}
	}
	return out
}

func labelsOfGroup(name string, written map[string]string) labels.Labels {
	out := make(labels.Labels)
	for k, v := range written {
		plain := labels.NewLabel(k, v, labels.LabelSourceCIDRGroup)
		encoded := labels.EncodedCIDRGroupLabel(k, v, labels.LabelSourceCIDRGroup)
		out[plain.Key], out[encoded.Key] = plain, encoded
	}
	ref := api.LabelForCIDRGroupRef(name)
	out[ref.Key] = ref
	return out
}

// owner is the endpoint that a policy is resolved for: what Cilium asks of it is
// which ports it declares.
type owner []mesh.NamedPort

func (o owner) GetIngressNamedPort(name string, proto u8proto.U8proto) uint16 {
	i := slices.IndexFunc(o, func(p mesh.NamedPort) bool { return p.Name == name && p.Protocol == proto.String() })
	if i < 0 {
		return 0
	}
	return o[i].Port
}

func (owner) GetID() uint64                               { return 1 }
func (owner) PolicyDebug(string, ...any)                  {}
func (owner) IsHost() bool                                { return false }
func (owner) PreviousMapStateSizes() policy.MapStateSizes { return policy.MapStateSizes{} }
func (owner) RegenerateIfAlive(*regeneration.ExternalRegenerationMetadata) <-chan bool {
	done := make(chan bool)
	close(done)
	return done
}

// namedPorts holds the ports that peers declare, in Cilium's own map of them.
type namedPorts struct{ pkgtypes.NamedPortMultiMap }

func (n namedPorts) GetNamedPorts() pkgtypes.NamedPortMultiMap { return n.NamedPortMultiMap }

func newNamedPorts(declared map[mesh.Identity][]mesh.NamedPort) (namedPorts, error) {
	all := pkgtypes.NewNamedPortMultiMap()
	for id, ports := range declared {
		own := make(pkgtypes.NamedPortMap)
		for _, p := range ports {
			if err := own.AddPort(p.Name, int(p.Port), p.Protocol); err != nil {
				return namedPorts{}, err
			}
		}
		all.Update(identity.NumericIdentity(id), nil, own)
		all.Update(asNode(id), nil, own)
	}
	return namedPorts{all}, nil
}
