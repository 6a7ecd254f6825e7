package agent

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/plan"
)

// choice says which interfaces are guarded.
type choice struct {
	await    []string // by name; these are waited for
	patterns []string // these too, if they are there, as path.Match takes them
	physical bool     // and all that look like hardware
	except   string   // but never this one
}

// takes reports whether l is guarded.
func (c choice) takes(l device.Link) bool {
	if l.Name == c.except {
		return false
	}
	return c.physical && l.Physical || slices.Contains(c.await, l.Name) || matches(c.patterns, l.Name)
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

// choice is those interfaces that this host last managed, as far as it is still
// told to, and those that it is told to manage. On one that knows of none, it is
// all that look like hardware.
func (g *guard) choice(b bootFacts) choice {
	cfg := g.opts.Config
	c := choice{patterns: cfg.Interfaces, physical: cfg.Guard.Interfaces == config.GuardPhysical, except: cfg.WireGuard.Device}
	for name := range b.Links {
		if len(cfg.Interfaces) == 0 || matches(cfg.Interfaces, name) {
			c.await = append(c.await, name)
		}
	}
	if len(c.await) == 0 {
		for _, p := range cfg.Interfaces {
			if !strings.ContainsAny(p, `*?[\`) {
				c.await = append(c.await, p)
			}
		}
		c.physical = c.physical || len(cfg.Interfaces) == 0
	}
	slices.Sort(c.await)
	return c
}

// shut attaches the programs to whatever leads out of this host, without a policy.
func (g *guard) shut(ctx context.Context, have known) (attached []string, err error) {
	holes, err := g.failsafe(have, sshPorts(have.facts))
	if err != nil {
		return nil, err
	}
	k, err := openDatapath(g.opts)
	if err != nil {
		return nil, err
	}
	defer k.programs.Close()
	if err := k.maps.Pinholes.Apply(holes, nil); err != nil {
		return nil, err
	}
	c := g.choice(have.facts)
	c.physical = c.physical || len(g.opts.Config.Interfaces) == 0
	return g.attach(ctx, k, c, plan.Desired{})
}

// attach attaches to the interfaces of c as they appear, until all that are
// awaited have come, and there is at least one, or it is time to go on. One that has not come
// is plexusd's, which attaches to what it sees come up: it is no error.
func (g *guard) attach(ctx context.Context, k *kernel, c choice, d plan.Desired) (names []string, err error) {
	a := attaching{guard: g, kernel: k, choice: c, desired: d, done: make(map[int]error)}
	patience := share(g.opts.Config.Guard.Timeout, linkShare)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := device.FollowLinks(ctx, func(all []device.Link) bool { return a.see(ctx, all) }); err != nil {
		return a.names, fmt.Errorf("%w: %w", errPartly, err)
	}
	if missing := a.missing(); len(missing) > 0 || len(a.names) == 0 {
		g.logger.Warn("interfaces not there in time: plexusd attaches to them when they come up", "missing", missing, "waited", patience)
	}
	var errs []error
	for _, err := range a.done {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return a.names, fmt.Errorf("%w: %w", errPartly, err)
	}
	return a.names, nil
}

// attaching is what has been attached to.
type attaching struct {
	*guard
	kernel  *kernel
	choice  choice
	desired plan.Desired
	done    map[int]error // by index of the interface, which may have had another name
	names   []string      // attached to
	seen    []string      // names of interfaces that are there
}

// see attaches to what has come, and reports whether all has.
func (a *attaching) see(ctx context.Context, all []device.Link) (enough bool) {
	a.seen = nil
	for _, l := range all {
		a.seen = append(a.seen, l.Name)
		if _, tried := a.done[l.Index]; !tried && a.choice.takes(l) {
			a.done[l.Index] = a.take(ctx, l.Name)
		}
	}
	return len(a.missing()) == 0 && len(a.done) > 0
}

func (a *attaching) take(ctx context.Context, name string) error {
	d := a.desired
	d.Links = []datapath.Link{{Name: name}}
	if err := a.kernel.ensureLinks(ctx, d); err != nil {
		a.logger.Error("interface not guarded", "device", name, "error", err)
		return err
	}
	a.names = append(a.names, name)
	return nil
}

// missing returns the awaited interfaces that are not there.
func (a *attaching) missing() []string {
	return slices.DeleteFunc(slices.Clone(a.choice.await), func(name string) bool { return slices.Contains(a.seen, name) })
}
