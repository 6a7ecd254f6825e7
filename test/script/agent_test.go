package script

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/mirror"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/reconcile"
	"github.com/plexusmesh/plexus/state"
)

// agent is the composition that package agent makes, over the fakes: mirrors
// push into state, plans are made of it, and the conductor applies them.
type agent struct {
	store     *state.Store
	conductor *reconcile.Conductor[plan.Desired]
	stop      context.CancelFunc
	group     *errgroup.Group
}

// source is one prefix of etcd.
type source struct {
	name, prefix string
	put          func(t *state.Tables, name string, value []byte) error
	remove       func(t *state.Tables, name string)
}

var layout = schema.Layout{Cluster: cluster.Name}

var sources = []source{
	{"nodes", layout.Prefix(schema.Nodes),
		func(t *state.Tables, name string, value []byte) error {
			n, err := schema.DecodeNode(cluster, name, value)
			if err == nil {
				t.Nodes[n.ID()] = n
			}
			return err
		},
		func(t *state.Tables, name string) { delete(t.Nodes, mesh.Node{Name: name, Cluster: cluster}.ID()) }},
	{"endpoints", layout.Prefix(schema.IPs),
		func(t *state.Tables, name string, value []byte) error {
			e, err := schema.DecodeEndpoint(cluster, name, value)
			if err == nil {
				t.Endpoints[e.Prefix] = e
			}
			return err
		},
		func(t *state.Tables, name string) { delete(t.Endpoints, mesh.HostPrefix(netip.MustParseAddr(name))) }},
	{"identities", layout.Prefix(schema.Identities),
		func(t *state.Tables, name string, value []byte) error {
			id, labels, err := schema.DecodeIdentity(cluster, name, value)
			if err == nil {
				t.Identities[id] = labels
			}
			return err
		},
		func(*state.Tables, string) {}},
	{"policies", schema.PoliciesPrefix, putPolicy,
		func(t *state.Tables, name string) { delete(t.Policies, name) }},
}

// putPolicy takes a document, or the revision that the documents belong to.
func putPolicy(t *state.Tables, name string, value []byte) error {
	if name == schema.PolicyRevisionName {
		r, err := schema.DecodePolicyRevision(schema.PolicyRevisionKey, value)
		if err == nil {
			t.Revision.Number = r.Revision
		}
		return err
	}
	record, err := schema.DecodePolicy(name, value)
	if err != nil {
		return err
	}
	parsed, err := policy.Parse(name, []byte(record.Document))
	for _, p := range parsed {
		t.Policies[p.ID()] = p
	}
	return err
}

// start runs an agent on what the world holds.
func (w *world) start() error {
	if w.agent != nil {
		return errors.New("an agent runs already")
	}
	steps, err := w.steps()
	if err != nil {
		return err
	}
	a := &agent{store: state.New(names()...)}
	a.conductor = reconcile.New(reconcile.Options[plan.Desired]{
		Name: "kernel", Steps: steps, Logger: w.logger(),
		Synced: func() bool { return a.store.Snapshot().Synced() },
	})
	ctx, stop := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	a.stop, a.group = stop, group
	for _, s := range sources {
		m, err := w.mirror(a.store, s)
		if err != nil {
			return err
		}
		group.Go(func() error { return m.Run(ctx) })
	}
	group.Go(func() error { return a.conductor.Run(ctx) })
	group.Go(func() error { return a.planning(ctx) })
	w.agent = a
	return nil
}

func names() []string {
	var out []string
	for _, s := range sources {
		out = append(out, s.name)
	}
	return out
}

// mirror pushes s as package agent does: each revision at once.
func (w *world) mirror(store *state.Store, s source) (*mirror.Mirror, error) {
	var whole []func(*state.Tables)
	return mirror.New(mirror.Options{
		Lister: gatedLister{w.kv, w.gates}, Prefix: s.prefix, Logger: w.logger(),
		OnPut: func(name string, value []byte) {
			whole = append(whole, func(t *state.Tables) {
				if err := s.put(t, name, value); err != nil {
					w.logger().Warn("entry refused", "key", name, "error", err)
				}
			})
		},
		OnDelete: func(name string) {
			whole = append(whole, func(t *state.Tables) { s.remove(t, name) })
		},
		OnRevision: func(int64) {
			store.Update(s.name, func(t *state.Tables) {
				for _, change := range whole {
					change(t)
				}
			})
			whole = nil
		},
		OnSynced: func() { store.Complete(s.name, nil) },
	})
}

// planning plans as package agent does: not before every source has synced, and
// not while the mesh does not know this host.
func (a *agent) planning(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.store.Changed():
		}
		if s := a.store.Snapshot(); s.Synced() {
			if d := plan.Build(s, local()); d.Self != identity.Unknown {
				a.conductor.Set(d)
			}
		}
	}
}

// end stops the agent as a crash would: nothing is cleaned up.
func (w *world) end() error {
	if w.agent == nil {
		return errors.New("no agent runs")
	}
	w.agent.stop()
	err := w.agent.group.Wait()
	w.agent = nil
	return err
}

// steps are those of package agent, in its order and with its needs.
func (w *world) steps() ([]reconcile.Step[plan.Desired], error) {
	device, derr := wg.New(wg.Options{Name: tunnel, Client: w.wg})
	routes, rerr := route.New(route.Options{Device: tunnel, Netlink: w.routes})
	if err := errors.Join(derr, rerr); err != nil {
		return nil, fmt.Errorf("make drivers: %w", err)
	}
	return []reconcile.Step[plan.Desired]{
		{Resource: &resource[netip.Prefix, datapath.Peer]{name: "ipcache", shelf: w.ipcache,
			want: func(d plan.Desired) map[netip.Prefix]datapath.Peer { return d.IPCache }}},
		{Needs: []string{"ipcache"}, Resource: &resource[policy.Key, policy.Entry]{name: "policy", shelf: w.policy,
			want: func(d plan.Desired) map[policy.Key]policy.Entry { return d.Verdicts.Entries }}},
		{Needs: []string{"ipcache", "policy"}, Resource: &resource[string, bool]{name: "links", shelf: w.links, want: linkNames}},
		{Needs: []string{"links"}, Resource: driver{"peers", func(ctx context.Context, d plan.Desired) error {
			return device.Ensure(ctx, wg.Config{PrivateKey: w.key, Port: mesh.WireGuardPort, Peers: d.Peers})
		}, func(ctx context.Context, d plan.Desired, orphans bool) error {
			return device.Prune(ctx, d.Peers, orphans)
		}}},
		{Needs: []string{"links"}, Resource: driver{"routes", func(ctx context.Context, d plan.Desired) error {
			return routes.Ensure(ctx, d.Routes)
		}, func(ctx context.Context, _ plan.Desired, orphans bool) error {
			return routes.Prune(ctx, orphans)
		}}},
	}, nil
}

func linkNames(d plan.Desired) map[string]bool {
	out := make(map[string]bool)
	for _, l := range d.Links {
		out[l.Name] = l.Tunnel
	}
	return out
}

// driver makes a resource of a real driver.
type driver struct {
	name   string
	ensure func(context.Context, plan.Desired) error
	prune  func(context.Context, plan.Desired, bool) error
}

func (d driver) Name() string { return d.name }

func (d driver) Ensure(ctx context.Context, want plan.Desired) error { return d.ensure(ctx, want) }

func (d driver) Prune(ctx context.Context, want plan.Desired, orphans bool) error {
	return d.prune(ctx, want, orphans)
}
