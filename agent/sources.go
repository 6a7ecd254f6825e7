package agent

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/mirror"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// source turns one prefix of etcd into one part of the state. Its name is the
// one under which it pushes and which status shows.
type source struct {
	name   string
	prefix string
	put    func(t *state.Tables, name string, value []byte) error
	remove func(t *state.Tables, name string)
}

// ownCluster are the sources of the own cluster's state.
func ownCluster(c mesh.Cluster) []source {
	own := schema.Layout{Cluster: c.Name}
	return []source{
		nodes(c, own), endpoints(c, own), identities(c, own),
		policies(), policyRevision(),
	}
}

func nodes(c mesh.Cluster, l schema.Layout) source {
	return source{
		name: "nodes", prefix: l.Prefix(schema.Nodes),
		put: func(t *state.Tables, name string, value []byte) error {
			n, err := schema.DecodeNode(c, name, value)
			if err == nil {
				t.Nodes[n.ID()] = n
			}
			return err
		},
		remove: func(t *state.Tables, name string) { delete(t.Nodes, mesh.Node{Name: name, Cluster: c}.ID()) },
	}
}

func endpoints(c mesh.Cluster, l schema.Layout) source {
	return source{
		name: "endpoints", prefix: l.Prefix(schema.IPs),
		put: func(t *state.Tables, name string, value []byte) error {
			e, err := schema.DecodeEndpoint(c, name, value)
			if err == nil {
				t.Endpoints[e.Prefix] = e
			}
			return err
		},
		remove: func(t *state.Tables, name string) { delete(t.Endpoints, prefixNamed(name)) },
	}
}

// prefixNamed is the reverse of schema.EndpointName; a name that is neither an
// address nor a prefix never became an endpoint.
func prefixNamed(name string) netip.Prefix {
	if a, err := netip.ParseAddr(name); err == nil {
		return mesh.HostPrefix(a)
	}
	p, _ := netip.ParsePrefix(name)
	return p
}

func identities(c mesh.Cluster, l schema.Layout) source {
	return source{
		name: "identities", prefix: l.Prefix(schema.Identities),
		put: func(t *state.Tables, name string, value []byte) error {
			id, labels, err := schema.DecodeIdentity(c, name, value)
			if err == nil {
				t.Identities[id] = labels
			}
			return err
		},
		remove: func(t *state.Tables, name string) {
			if id, err := identity.ParseNumber(name); err == nil {
				delete(t.Identities, id)
			}
		},
	}
}

func policies() source {
	return source{
		name: "policies", prefix: schema.PoliciesPrefix,
		put: func(t *state.Tables, name string, value []byte) error {
			p, err := decodePolicy(name, value)
			if err == nil {
				t.Policies[p.ID()] = p
			}
			return err
		},
		remove: func(t *state.Tables, name string) { delete(t.Policies, name) },
	}
}

// decodePolicy reads a policy that a server has validated before it stored it.
func decodePolicy(name string, value []byte) (policy.Policy, error) {
	record, err := schema.DecodePolicy(name, value)
	if err != nil {
		return policy.Policy{}, err
	}
	parsed, err := policy.Parse(name, []byte(record.Document))
	if err != nil {
		return policy.Policy{}, fmt.Errorf("read policy %s: this agent does not understand it, and keeps what it knew of it: upgrade plexusd: %w", name, err)
	}
	if len(parsed) != 1 || parsed[0].ID() != name {
		return policy.Policy{}, fmt.Errorf("read policy %s: its document holds %d policies", name, len(parsed))
	}
	return parsed[0], nil
}

func policyRevision() source {
	return source{
		name: "policy-revision", prefix: schema.PolicyRevisionKey,
		put: func(t *state.Tables, _ string, value []byte) error {
			r, err := schema.DecodePolicyRevision(value)
			if err == nil {
				t.Revision = state.Revision{Number: r.Revision, Author: r.Author, Time: r.Time}
			}
			return err
		},
		remove: func(t *state.Tables, _ string) { t.Revision = state.Revision{} },
	}
}

// refusals remembers which keys could not be understood, for status. What was
// known of such a key before stays.
type refusals struct {
	mu  sync.Mutex
	all map[string]error // by source and name
}

func (r *refusals) note(key string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.all, key)
		return
	}
	if r.all == nil {
		r.all = make(map[string]error)
	}
	r.all[key] = err
}

// names returns which names of a source are refused.
func (r *refusals) names(source string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for key := range r.all {
		if name, ok := strings.CutPrefix(key, source+"/"); ok {
			out = append(out, name)
		}
	}
	return out
}

// List returns what is refused at the moment.
func (r *refusals) List() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]error, 0, len(r.all))
	for _, err := range r.all {
		out = append(out, err)
	}
	return out
}

// feed has s pushed into a store.
type feed struct {
	client  *kvstore.Client
	store   *state.Store
	refused *refusals
	logger  *slog.Logger
}

// mirror returns the mirror that pushes s.
func (f feed) mirror(s source) (*mirror.Mirror, error) {
	return mirror.New(mirror.Options{
		Lister: f.client, Prefix: s.prefix, Logger: f.logger,
		OnPut: func(name string, value []byte) {
			var err error
			f.store.Update(s.name, func(t *state.Tables) { err = s.put(t, name, value) })
			f.refused.note(s.name+"/"+name, err)
			if err != nil {
				f.logger.Warn("entry refused", "prefix", s.prefix, "key", name, "error", err)
			}
		},
		OnDelete: func(name string) {
			f.store.Update(s.name, func(t *state.Tables) { s.remove(t, name) })
			f.refused.note(s.name+"/"+name, nil)
		},
		OnSynced: func() { f.store.SetSynced(s.name) },
	})
}
