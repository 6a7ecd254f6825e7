package agent

import (
	"context"
	"errors"
	"slices"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/datapath/socket"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/reconcile"
)

// step makes a reconcile.Resource of two functions. A nil prune removes nothing.
type step struct {
	name   string
	ensure func(context.Context, plan.Desired) error
	prune  func(context.Context, plan.Desired, bool) error
}

func (s step) Name() string { return s.name }

func (s step) Ensure(ctx context.Context, d plan.Desired) error { return s.ensure(ctx, d) }

func (s step) Prune(ctx context.Context, d plan.Desired, orphans bool) error {
	if s.prune == nil {
		return nil
	}
	return s.prune(ctx, d, orphans)
}

// steps are the effects on the kernel, in order. Programs are attached once
// there are maps to judge by, and the tunnel carries packets once programs are
// attached to it: whatever fails, no packet passes unjudged and none for a mesh
// address leaves in plaintext.
func (k *kernel) steps() []reconcile.Step[plan.Desired] {
	judged := []string{"ipcache", "pinholes", "policy"}
	governed := []string{"links", "tunnel"}
	return []reconcile.Step[plan.Desired]{
		// Before any peer's plaintext is refused, or the way to mend things would be.
		{Resource: k.exemptions()},
		{Resource: k.ipcache(), Needs: []string{"exemptions"}},
		{Resource: k.pinholes()},
		{Resource: k.policy(), Needs: []string{"ipcache"}},
		{Resource: step{name: "tunnel", ensure: k.ensureTunnel}},
		{Resource: step{name: "links", ensure: k.ensureLinks, prune: k.pruneLinks}, Needs: judged},
		{Resource: k.early, Needs: []string{"links"}},
		// Up before it has a peer: only then does a port that is taken say so.
		{Resource: step{name: "addresses", ensure: ensureAddresses}, Needs: governed},
		{Resource: step{name: "peers", ensure: k.ensurePeers, prune: k.prunePeers}, Needs: governed},
		{Resource: step{name: "routes", ensure: k.ensureRoutes, prune: k.pruneRoutes}, Needs: governed},
		// Needs no peers: what has no way into the tunnel must not leave beside it.
		{Resource: step{name: "detour", ensure: k.ensureDetour, prune: k.pruneDetour}, Needs: governed},
	}
}

// ensureLinks makes connections known that were open before the programs could
// see them, so that judging begins without cutting any that policy allows.
func (k *kernel) ensureLinks(_ context.Context, d plan.Desired) error {
	attached, err := k.programs.ListLinks()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(d.Links, func(l datapath.Link) bool { return !slices.Contains(attached, l) }) {
		if err := k.seed(d); err != nil {
			k.logger.Warn("connections opened earlier not all known: some may be judged in the wrong direction", "error", err)
		}
	}
	return k.programs.EnsureLinks(d.Links)
}

// seed puts the connections of this host's sockets into connection tracking, and
// what the kernel itself tracks besides: those of containers and guests.
func (k *kernel) seed(d plan.Desired) error {
	var devices []string
	for _, l := range d.Links {
		devices = append(devices, l.Name)
	}
	open, err := socket.List()
	tracked, terr := socket.Tracked(devices)
	open, err = append(open, tracked...), errors.Join(err, terr) // of what both know, the first stands
	for i := range open {
		remote := open[i].Remote.Addr()
		open[i].Tunnel = d.Detour.Takes(open[i]) || slices.ContainsFunc(d.Routes, func(r datapath.Route) bool { return r.Prefix.Contains(remote) })
	}
	return errors.Join(err, k.maps.Flows.Seed(open))
}

// pruneLinks waits for no source: an interface that is no longer managed is
// this host's own decision. One that is only silent for the moment keeps its
// programs, so that its first packet afterwards does not come before they do.
func (k *kernel) pruneLinks(_ context.Context, d plan.Desired, _ bool) error {
	attached, err := k.programs.ListLinks()
	if err != nil {
		return err
	}
	silent := slices.DeleteFunc(attached, func(l datapath.Link) bool { return !device.Silent(l.Name) })
	return k.programs.PruneLinks(slices.Concat(d.Links, silent))
}

func (k *kernel) ensurePeers(ctx context.Context, d plan.Desired) error {
	return k.wireguard.Ensure(ctx, k.wireguardConfig(d.Peers))
}

func (k *kernel) prunePeers(ctx context.Context, d plan.Desired, orphans bool) error {
	return k.wireguard.Prune(ctx, d.Peers, orphans)
}

func ensureAddresses(ctx context.Context, d plan.Desired) error {
	return device.EnsureTunnel(ctx, d.Tunnel)
}

func (k *kernel) ensureRoutes(ctx context.Context, d plan.Desired) error {
	return k.routes.Ensure(ctx, d.Routes)
}

func (k *kernel) pruneRoutes(ctx context.Context, _ plan.Desired, orphans bool) error {
	return k.routes.Prune(ctx, orphans)
}

func (k *kernel) ensureDetour(ctx context.Context, d plan.Desired) error {
	return k.detour.Ensure(ctx, d.Detour)
}

func (k *kernel) pruneDetour(ctx context.Context, _ plan.Desired, orphans bool) error {
	return k.detour.Prune(ctx, orphans)
}
