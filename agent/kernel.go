package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/datapath/loader"
	"github.com/plexusmesh/plexus/datapath/route"
	"github.com/plexusmesh/plexus/datapath/socket"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/reconcile"
)

// kernel is everything that brings the kernel of this host to a desired state.
type kernel struct {
	cfg       config.Config
	logger    *slog.Logger
	helper    []string // command that runs wireguard-go for a device
	key       encryption.PrivateKey
	known     bool // whether the mesh had this host before this run
	fresh     bool // whether no earlier run of this boot has left a tunnel
	programs  *loader.Datapath
	maps      *bpfmap.Maps
	verdicts  *verdicts
	wireguard *wg.Device
	routes    *route.Table
	detour    *route.Detour
	early     *early

	mu   sync.Mutex
	kind wg.Kind
}

// openKernel loads programs and adopts what an earlier run pinned. It attaches
// and changes nothing.
func openKernel(o Options, key encryption.PrivateKey) (*kernel, error) {
	k, err := openDatapath(o)
	if err != nil {
		return nil, err
	}
	k.helper, k.key, k.fresh = o.Helper, key, !device.Exists(o.Config.WireGuard.Device)
	tunnel, derr := wg.New(wg.Options{Name: o.Config.WireGuard.Device})
	routes, rerr := route.New(route.Options{Device: o.Config.WireGuard.Device})
	detour, terr := route.NewDetour(route.DetourOptions{Device: o.Config.WireGuard.Device})
	if err := errors.Join(derr, rerr, terr); err != nil {
		return nil, errors.Join(err, k.programs.Close())
	}
	k.wireguard, k.routes, k.detour = tunnel, routes, detour
	return k, nil
}

// openDatapath opens what judges packets, and nothing of the tunnel.
func openDatapath(o Options) (*kernel, error) {
	programs, err := loader.Open(loader.Options{
		Root: o.Config.BPFRoot, CTSize: uint32(o.Config.Conntrack.Size), SourceLimit: uint32(o.Config.Datapath.SourceLimit), Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	k := &kernel{cfg: o.Config, logger: o.Logger, programs: programs, maps: programs.Maps()}
	// The run before may have died between a change and having flows judged by it.
	if _, err := k.maps.Policy.Rejudge(); err != nil {
		return nil, errors.Join(err, programs.Close())
	}
	k.verdicts = &verdicts{maps: k.maps.Policy}
	k.early = &early{
		off: o.Config.Datapath.XDP == config.XDPOff, limited: o.Config.Datapath.SourceLimit > 0, logger: o.Logger, prune: programs.PruneEarly,
		open: func() (earlyStage, error) { return programs.OpenEarly() },
	}
	return k, nil
}

// Close lets go of everything and removes nothing. Whoever comes next may be a
// daemon of an older version.
func (k *kernel) Close() error {
	early := k.early.Close() // it trusts tables that an older version does not keep
	if err := k.programs.LeaveForOlder(); err != nil {
		k.logger.Warn("an older version started next would not know all flows", "error", err)
	}
	return errors.Join(early, k.wireguard.Close(), k.programs.Close())
}

// policy is the resource that loads verdicts.
func (k *kernel) policy() reconcile.Resource[plan.Desired] { return k.verdicts }

// pidFile names the WireGuard helper to the next run.
func pidFile(cfg config.Config) string {
	return filepath.Join(cfg.RuntimeDir, "wireguard-"+cfg.WireGuard.Device+".pid")
}

func (k *kernel) ensureTunnel(ctx context.Context, d plan.Desired) error {
	kind, err := wg.EnsureDevice(ctx, wg.DeviceOptions{
		Name: d.Tunnel.Name, MTU: d.Tunnel.MTU, Command: k.helper, PIDFile: pidFile(k.cfg), Logger: k.logger,
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kind = kind
	return nil
}

// Kind says who implements WireGuard here, "" before the device exists.
func (k *kernel) Kind() wg.Kind {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kind
}

func (k *kernel) wireguardConfig(peers map[mesh.Key]encryption.Peer) wg.Config {
	return wg.Config{PrivateKey: k.key, Port: uint16(k.cfg.WireGuard.Port), FirewallMark: route.Mark, Peers: peers, Known: k.known}
}

// removeAll removes everything that is ours from the kernel, in the reverse
// order of its making: routes and device before the programs that guard them, and
// connections from addresses of the device, which have no tunnel any more, while
// these still stand. It needs no memory of what was made.
func removeAll(ctx context.Context, cfg config.Config) error {
	var errs []error
	addresses, aerr := device.TunnelAddresses(cfg.WireGuard.Device)
	errs = append(errs, aerr, removeRoutes(ctx, cfg.WireGuard.Device), wg.RemoveDevice(ctx, cfg.WireGuard.Device, pidFile(cfg)))
	if err := socket.End(addresses); !errors.Is(err, unix.EOPNOTSUPP) { // such a kernel leaves them be
		errs = append(errs, err)
	}
	errs = append(errs, loader.Cleanup(cfg.BPFRoot))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean the kernel: %w", err)
	}
	return nil
}

func removeRoutes(ctx context.Context, tunnel string) error {
	detour, derr := route.NewDetour(route.DetourOptions{Device: tunnel})
	routes, rerr := route.New(route.Options{Device: tunnel})
	if err := errors.Join(derr, rerr); err != nil {
		return err
	}
	return errors.Join(detour.Remove(ctx), routes.Remove(ctx))
}
