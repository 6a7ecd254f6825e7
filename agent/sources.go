package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/mirror"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

// change is what one key of etcd means for the state.
type change func(*state.Tables)

// source turns one prefix of etcd into one part of the state. Its name is the
// one under which it pushes and which status shows.
type source struct {
	name   string
	prefix string
	whole  bool // whether a change counts only once all of it is understood
	// read decodes a key. What of it could not be understood is its error; the
	// change, nil if there is none, is about the rest.
	read   func(name string, value []byte) (change, error)
	remove func(name string) change
}

// ownCluster are the sources of the own cluster's state.
func ownCluster(c mesh.Cluster) []source {
	own := schema.Layout{Cluster: c.Name}
	return []source{
		nodes(c, own), endpoints(c, own), identities(c, own),
		policies(),
	}
}

func nodes(c mesh.Cluster, l schema.Layout) source {
	return source{
		name: "nodes", prefix: l.Prefix(schema.Nodes),
		read: func(name string, value []byte) (change, error) {
			n, err := schema.DecodeNode(c, name, value)
			return unless(err, func(t *state.Tables) { t.Nodes[n.ID()] = n })
		},
		remove: func(name string) change {
			return func(t *state.Tables) { delete(t.Nodes, mesh.Node{Name: name, Cluster: c}.ID()) }
		},
	}
}

// unless returns c where there is no error.
func unless(err error, c change) (change, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func endpoints(c mesh.Cluster, l schema.Layout) source {
	return source{
		name: "endpoints", prefix: l.Prefix(schema.IPs),
		read: func(name string, value []byte) (change, error) {
			e, err := schema.DecodeEndpoint(c, name, value)
			return unless(err, func(t *state.Tables) { t.Endpoints[e.Prefix] = e })
		},
		remove: func(name string) change {
			return func(t *state.Tables) { delete(t.Endpoints, prefixNamed(name)) }
		},
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
		read: func(name string, value []byte) (change, error) {
			id, labels, err := schema.DecodeIdentity(c, name, value)
			return unless(err, func(t *state.Tables) { t.Identities[id] = labels })
		},
		remove: func(name string) change {
			return func(t *state.Tables) {
				if id, err := identity.ParseNumber(name); err == nil {
					delete(t.Identities, id)
				}
			}
		},
	}
}

// policies are documents, and among them the revision that they belong to.
func policies() source {
	return source{
		name: "policies", prefix: schema.PoliciesPrefix, whole: true,
		read: func(name string, value []byte) (change, error) {
			if name == schema.PolicyRevisionName {
				return readRevision(value)
			}
			p, err := decodePolicy(name, value)
			return unless(err, func(t *state.Tables) { t.Policies[name] = p })
		},
		remove: func(name string) change {
			if name == schema.PolicyRevisionName {
				return func(t *state.Tables) { t.Revision = state.Revision{} }
			}
			return func(t *state.Tables) { delete(t.Policies, name) }
		},
	}
}

// decodePolicy reads a policy that a server has validated before it stored it.
func decodePolicy(name string, value []byte) (policy.Policy, error) {
	record, err := schema.DecodePolicy(name, value)
	if err != nil {
		return policy.Policy{}, err
	}
	return parsePolicy(name, record.Document)
}

func parsePolicy(name, document string) (policy.Policy, error) {
	parsed, err := policy.Parse(name, []byte(document))
	if err != nil {
		return policy.Policy{}, fmt.Errorf("read policy %s: this agent does not understand it, and keeps what it knew of it: upgrade plexusd: %w", name, err)
	}
	if len(parsed) != 1 || parsed[0].ID() != name {
		return policy.Policy{}, fmt.Errorf("read policy %s: its document holds %d policies", name, len(parsed))
	}
	return parsed[0], nil
}

// readRevision reads the newest revision and, while it is on trial, what takes
// it back. A document of before that this agent does not understand is left out
// of that, and is the error: then what the revision made of it stays.
func readRevision(value []byte) (change, error) {
	r, err := schema.DecodePolicyRevision(schema.PolicyRevisionKey, value)
	if err != nil {
		return nil, err
	}
	out := state.Revision{Number: r.Revision, Author: r.Author, Time: r.Time, Window: r.Window()}
	if r.Pending() {
		out.Undo, err = undo(r.Changes)
	}
	return func(t *state.Tables) { t.Revision = out }, err
}

func undo(changes []schema.PolicyChange) (map[string]*policy.Policy, error) {
	out := make(map[string]*policy.Policy, len(changes))
	var errs []error
	for _, c := range changes {
		if c.Before == "" {
			out[c.Name] = nil
			continue
		}
		p, err := parsePolicy(c.Name, c.Before)
		if err != nil {
			errs = append(errs, fmt.Errorf("read what was before the newest revision: %w", err))
			continue
		}
		out[c.Name] = &p
	}
	return out, errors.Join(errs...)
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

// names returns which names of a source are refused. The revision of the
// policies is none of them: without it, what they say is still known.
func (r *refusals) names(source string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for key := range r.all {
		if name, ok := strings.CutPrefix(key, source+"/"); ok && name != schema.PolicyRevisionName {
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
	client  mirror.Lister
	store   *state.Store
	keep    *snapshot.Keeper // what was delivered, for the next run; nil for none
	refused *refusals
	logger  *slog.Logger
}

// mirror returns the mirror that pushes s.
func (f feed) mirror(s source) (*mirror.Mirror, error) { return mirror.New(f.options(s)) }

// options has each revision of etcd pushed at once, so that nobody ever sees half
// of a transaction. The first is the whole list, and takes the place of what an
// earlier run knew. What a source wants whole waits for the revision with which
// all of it is understood: until then, nothing of it is known to be right.
func (f feed) options(s source) mirror.Options {
	whole := make(map[string]change)         // by key: what has come since the last revision
	came := make(map[string]snapshot.Change) // the same, as it came
	unread := make(map[string]bool)          // what of it is not understood
	note, update := f.keep.Complete, f.store.Complete
	return mirror.Options{
		Lister: f.client, Prefix: s.prefix, Logger: f.logger,
		OnPut: func(name string, value []byte) {
			c, err := s.read(name, value)
			f.refused.note(s.name+"/"+name, err)
			if err != nil {
				f.logger.Warn("entry refused", "prefix", s.prefix, "key", name, "error", err)
			}
			if unread[name] = c == nil; c != nil {
				whole[name] = c
			} else {
				delete(whole, name) // an earlier one that has waited
			}
			came[name] = snapshot.Change{Name: name, Value: value, Refused: c == nil}
		},
		OnDelete: func(name string) {
			whole[name] = s.remove(name)
			unread[name] = false
			f.refused.note(s.name+"/"+name, nil)
			came[name] = snapshot.Change{Name: name, Gone: true}
		},
		OnRevision: func(int64) {
			if s.whole && anyTrue(unread) {
				return
			}
			note(s.name, slices.Collect(maps.Values(came))) // first: who plans with it may want it on disk
			update(s.name, func(t *state.Tables) {
				for _, c := range whole {
					c(t)
				}
			})
			clear(whole)
			clear(came)
			clear(unread)
			note, update = f.keep.Note, f.store.Update
		},
	}
}

func anyTrue(m map[string]bool) bool {
	for _, v := range m {
		if v {
			return true
		}
	}
	return false
}
