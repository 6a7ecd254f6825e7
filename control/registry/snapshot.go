package registry

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// snapshot is what servers know of hosts, not older than its guard.
type snapshot struct {
	guard  int64 // revision of schema.EnrolmentKey
	config schema.MeshConfig
	layout schema.Layout
	hosts  map[string]schema.Host
	claims map[string]mesh.Claim
	facts  map[string]mesh.Node
	ips    map[netip.Prefix]mesh.Endpoint
	ids    map[mesh.Identity]string     // labels, encoded
	void   map[string][]control.Refusal // of claims that cannot be read
	told   map[string][]control.Refusal // what hosts have been told already
	revs   map[string]int64             // of host records
	conds  []kvstore.Cond               // that a plan adds
}

// versioned is a token with the revision at which it was read.
type versioned struct {
	schema.Token
	revision int64
}

// errUninitialised says that etcd holds no mesh.
var errUninitialised = control.Errorf(control.CodeUnavailable, "etcd holds no mesh yet: run plexus init")

// read takes a snapshot. The guard is read first: whatever changes while the
// rest is read makes the transaction fail.
func (s *Service) read(ctx context.Context) (*snapshot, error) {
	kv, _, err := s.opts.Store.Get(ctx, schema.EnrolmentKey)
	if err != nil {
		return nil, fmt.Errorf("read enrolments: %w", err)
	}
	snap := &snapshot{guard: kv.ModRevision}
	if snap.config, err = s.Config(ctx); err != nil {
		return nil, err
	}
	snap.layout = schema.Layout{Cluster: snap.config.Cluster.Name}
	for _, part := range snap.parts() {
		kvs, _, err := s.opts.Store.List(ctx, part.prefix)
		if err != nil {
			return nil, fmt.Errorf("read enrolments: %w", err)
		}
		for _, kv := range kvs {
			if err := part.add(strings.TrimPrefix(kv.Key, part.prefix), kv); err != nil {
				return nil, fmt.Errorf("read enrolments: %w", err)
			}
		}
	}
	return snap, nil
}

// Config returns what init settled for the whole mesh.
func (s *Service) Config(ctx context.Context) (schema.MeshConfig, error) {
	kv, found, err := s.opts.Store.Get(ctx, schema.ConfigKey)
	if err != nil {
		return schema.MeshConfig{}, fmt.Errorf("read mesh settings: %w", err)
	}
	if !found {
		return schema.MeshConfig{}, errUninitialised
	}
	return schema.DecodeMeshConfig(kv.Value)
}

type part struct {
	prefix string
	add    func(name string, kv kvstore.KV) error
}

// parts lists what a snapshot holds. What only servers write must be readable.
// A claim, which its host writes as it likes, becomes a refusal.
func (s *snapshot) parts() []part {
	s.hosts, s.revs = make(map[string]schema.Host), make(map[string]int64)
	s.claims, s.void = make(map[string]mesh.Claim), make(map[string][]control.Refusal)
	s.facts, s.ips = make(map[string]mesh.Node), make(map[netip.Prefix]mesh.Endpoint)
	s.ids, s.told = make(map[mesh.Identity]string), make(map[string][]control.Refusal)
	cluster := s.config.Cluster
	return []part{
		{schema.HostsPrefix, func(name string, kv kvstore.KV) (err error) {
			s.hosts[name], err = schema.DecodeHost(name, kv.Value)
			s.revs[name] = kv.ModRevision
			return err
		}},
		{schema.ClaimsPrefix, func(name string, kv kvstore.KV) error {
			c, err := schema.DecodeClaim(name, kv.Value)
			if err != nil {
				s.void[name] = []control.Refusal{{Field: "node", Value: name, Reason: clip(err.Error())}}
				return nil
			}
			s.claims[name] = c
			return nil
		}},
		{s.layout.Prefix(schema.Nodes), func(name string, kv kvstore.KV) (err error) {
			s.facts[name], err = schema.DecodeNode(cluster, name, kv.Value)
			return err
		}},
		{s.layout.Prefix(schema.IPs), func(name string, kv kvstore.KV) error {
			e, err := schema.DecodeEndpoint(cluster, name, kv.Value)
			s.ips[e.Prefix] = e
			return err
		}},
		{s.layout.Prefix(schema.Identities), func(name string, kv kvstore.KV) error {
			id, labels, err := schema.DecodeIdentity(cluster, name, kv.Value)
			s.ids[id] = labels.String()
			return err
		}},
		{schema.RefusalsPrefix, func(name string, kv kvstore.KV) error {
			r, err := schema.DecodeRefusals(name, kv.Value)
			s.told[name] = refusalsOf(r)
			return err
		}},
	}
}

// clip shortens what may repeat a value of any length that a host wrote.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// conditions are those under which what was planned over s may be written.
func (s *snapshot) conditions() []kvstore.Cond {
	return append(s.conds, kvstore.Unchanged(schema.EnrolmentKey, s.guard))
}

// world returns what the judgement of claims depends on. Hosts on their way in
// or out count too: what they have is not to be had.
func (s *snapshot) world() control.World {
	w := control.World{
		Hosts: make(map[string]control.Host, len(s.hosts)), Claims: s.claims, Facts: s.facts,
		Pools: []netip.Prefix{s.config.Pool4, s.config.Pool6},
	}
	for name, h := range s.hosts {
		w.Hosts[name] = control.Host{
			Node: name, Cluster: s.config.Cluster, Mesh4: h.Mesh4, Mesh6: h.Mesh6,
			Key: h.Key, Port: h.Port, Seen: h.Seen, Set: h.Advertise, Server: h.Server,
		}
	}
	return w
}

// labels returns the labels of h's identity.
func (s *snapshot) labels(h schema.Host) identity.Labels {
	return identity.HostLabels(h.Labels, h.Namespace, s.config.Cluster)
}

// numbers returns the identities in use, by hosts or published.
func (s *snapshot) numbers() map[mesh.Identity]string {
	out := make(map[mesh.Identity]string, len(s.ids))
	for id, labels := range s.ids {
		out[id] = labels
	}
	for _, h := range s.hosts {
		out[h.Identity] = s.labels(h).String()
	}
	return out
}

// taken returns the mesh addresses in use, by hosts or published.
func (s *snapshot) taken() map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(s.ips))
	for p := range s.ips {
		out[p.Addr()] = true
	}
	for _, h := range s.hosts {
		out[h.Mesh4], out[h.Mesh6] = true, true
	}
	return out
}
