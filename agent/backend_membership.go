package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/bootstrap"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/mesh"
)

// governedWithin is how long init and join wait for the kernel to hold all that
// the mesh wants. What takes longer goes on by itself; status tells.
const governedWithin = 20 * time.Second

// Init makes a mesh with this host as its first server.
func (a *agent) Init(ctx context.Context, r api.InitRequest) (api.Joined, error) {
	if err := a.vacant(); err != nil {
		return api.Joined{}, err
	}
	defer a.busy.Unlock()
	opts, err := a.bootstrapOptions(r)
	if err != nil {
		return api.Joined{}, invalid(err)
	}
	k, err := a.prepare(ctx)
	if err != nil {
		return api.Joined{}, err
	}
	opts.Key = k.key.Public()
	server, e, err := bootstrap.Init(ctx, opts)
	if err != nil {
		return api.Joined{}, errors.Join(worded(err), a.undo(ctx, k))
	}
	s, err := a.assemble(e, k, a.serve(server))
	if err != nil {
		return api.Joined{}, errors.Join(err, a.forget(ctx))
	}
	joined := a.begun(ctx, s)
	text, created, err := server.Registry.CreateToken(ctx, registry.TokenOptions{Author: localAuthor})
	if err != nil {
		return api.Joined{}, fmt.Errorf("the mesh is made, but no join token: %w", err)
	}
	joined.Token = &api.TokenCreated{Token: text, ID: created.ID, Expires: created.Expires}
	return joined, nil
}

// begun starts s and waits a while for the kernel to hold everything; what
// hinders it then is said.
func (a *agent) begun(ctx context.Context, s *session) api.Joined {
	a.start(s)
	governed := s.member.awaitGoverned(ctx)
	st := s.member.status(ctx)
	if governed {
		st.Warnings = nil // what is left settles by itself, and status shows it
	}
	return api.Joined{Node: st.Node, Governed: governed, Warnings: st.Warnings}
}

func (a *agent) bootstrapOptions(r api.InitRequest) (bootstrap.Options, error) {
	cfg := a.opts.Config
	var pool netip.Prefix
	if r.Pool4 != "" {
		var err error
		if pool, err = netip.ParsePrefix(r.Pool4); err != nil {
			return bootstrap.Options{}, fmt.Errorf("pool %q is no CIDR prefix such as 10.210.0.0/16", r.Pool4)
		}
	}
	name, err := nodeName(r.NodeName)
	if err != nil {
		return bootstrap.Options{}, err
	}
	addresses, err := a.addresses(r.Advertise)
	if err != nil {
		return bootstrap.Options{}, err
	}
	return bootstrap.Options{
		StateDir: cfg.StateDir, Cluster: mesh.Cluster{Name: r.ClusterName, ID: r.ClusterID}, ForceClusterID: r.ForceClusterID,
		Node: name, Addresses: addresses, Advertise: r.Advertise, Labels: r.Labels, Namespace: r.Namespace,
		Pool4: pool, Port: uint16(cfg.WireGuard.Port), Version: a.opts.Version, Logger: a.opts.Logger,
		Ports: bootstrap.Ports{API: uint16(cfg.API.Port), Etcd: uint16(cfg.Etcd.ClientPort), EtcdPeer: uint16(cfg.Etcd.PeerPort)},
	}, nil
}

// Join makes this host part of the mesh that the token is for.
func (a *agent) Join(ctx context.Context, r api.JoinRequest) (api.Joined, error) {
	if err := a.vacant(); err != nil {
		return api.Joined{}, err
	}
	defer a.busy.Unlock()
	request, err := a.joinRequest(r)
	if err != nil {
		return api.Joined{}, invalid(err)
	}
	k, err := a.prepare(ctx)
	if err != nil {
		return api.Joined{}, err
	}
	request.Key = k.key.Public()
	e, err := client.Join(ctx, request)
	if err != nil {
		return api.Joined{}, errors.Join(worded(err), a.undo(ctx, k))
	}
	e.Advertise = r.Advertise
	s, err := a.enter(e, k)
	if err != nil {
		gone := client.Leave(context.WithoutCancel(ctx), e)
		return api.Joined{}, errors.Join(err, gone, a.undo(ctx, nil), client.Remove(a.opts.Config.StateDir))
	}
	return a.begun(ctx, s), nil
}

// enter remembers e and builds its session.
func (a *agent) enter(e control.Enrolment, k *kernel) (*session, error) {
	if err := client.Save(a.opts.Config.StateDir, e); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return a.assemble(e, k, nil)
}

// prepare finds out what this host lacks before anybody else hears of it: a
// join that fails later would have used up a token.
func (a *agent) prepare(ctx context.Context) (*kernel, error) {
	cfg := a.opts.Config
	if _, err := net.InterfaceByName(cfg.WireGuard.Device); err != nil { // one that exists may have the port
		if err := portFree(cfg.WireGuard.Port); err != nil {
			return nil, &api.Error{Code: "conflict", Text: err.Error()}
		}
	}
	k, err := a.openKernel()
	if err != nil {
		_ = os.Remove(wireGuardKey(cfg.StateDir)) // made for this attempt; one that stays does no harm
		return nil, err
	}
	return k, nil
}

// portFree reports who may be in the way of WireGuard.
func portFree(port int) error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return fmt.Errorf("use UDP port %d for WireGuard: another program may have it (ss -ulpn shows which): stop it, or set wireguard.port: %w", port, err)
	}
	return c.Close()
}

// undo takes back what prepare did, to the end even if whoever asked has gone. It
// touches nothing that makes a member or a server: an attempt that is refused
// because a mesh is here already must not remove that mesh.
func (a *agent) undo(ctx context.Context, k *kernel) error {
	var err error
	if k != nil {
		err = k.Close()
	}
	err = errors.Join(err, removeAll(context.WithoutCancel(ctx), a.opts.Config))
	if rerr := os.Remove(wireGuardKey(a.opts.Config.StateDir)); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

func (a *agent) joinRequest(r api.JoinRequest) (client.Request, error) {
	t, err := token.Parse(r.Token)
	if err != nil {
		return client.Request{}, err
	}
	name, err := nodeName(r.NodeName)
	if err != nil {
		return client.Request{}, err
	}
	addresses, err := a.addresses(r.Advertise)
	if err != nil {
		return client.Request{}, err
	}
	return client.Request{
		Token: t, Node: name, Addresses: addresses,
		Port: uint16(a.opts.Config.WireGuard.Port), Version: a.opts.Version,
	}, nil
}

// vacant holds busy, unless this host is a member already.
func (a *agent) vacant() error {
	a.busy.Lock()
	s := a.session()
	if s == nil {
		return nil
	}
	a.busy.Unlock()
	e := s.member.enrolment
	return &api.Error{Code: "conflict", Text: fmt.Sprintf("this host is %s of mesh %s already: leave it first, with plexus leave", e.Node, e.Cluster.Name)}
}

// Leave takes this host out of its mesh and removes everything of ours from it.
// With force it also removes what an interrupted init or join has left.
func (a *agent) Leave(ctx context.Context, r api.LeaveRequest) error {
	a.busy.Lock()
	defer a.busy.Unlock()
	m, err := a.joined()
	if err != nil && r.Force {
		return a.forget(ctx)
	}
	if err != nil {
		return err
	}
	if err := a.farewell(ctx, m, r.Force); err != nil {
		return err
	}
	s := a.session()
	a.mu.Lock()
	a.now = nil
	a.mu.Unlock()
	s.stop()
	return a.forget(ctx)
}

// farewell tells the mesh. With force it does not need to hear.
func (a *agent) farewell(ctx context.Context, m *member, force bool) error {
	if m.enrolment.Server {
		if force {
			return nil
		}
		return &api.Error{Code: "conflict", Text: "this host is the only server: the mesh ends when it leaves; let the other hosts leave first, then run plexus leave --force here"}
	}
	err := client.Leave(ctx, m.enrolment)
	gone := errors.Is(err, &control.Error{Code: control.CodeNotFound}) || // removed by an administrator,
		errors.Is(err, &control.Error{Code: control.CodeForbidden}) // and enrolled anew under that name
	if err == nil || gone || force {
		return nil
	}
	return &api.Error{Code: "unavailable", Text: fmt.Sprintf("no server heard that this host leaves, so nothing was changed; plexus leave --force leaves all the same, and plexus node remove %s on a server cleans up there: %v", m.enrolment.Node, err)}
}

// forget removes everything that makes this host a member or a server, or half
// of one.
func (a *agent) forget(ctx context.Context) error {
	dir := a.opts.Config.StateDir
	return errors.Join(a.undo(ctx, nil), bootstrap.Remove(dir),
		atomicfile.Remove(snapshotFile(dir)), atomicfile.Remove(trialFile(dir)), atomicfile.Remove(disarmedFile(dir)),
		atomicfile.Remove(bootFile(dir)))
}

// addresses returns those that other hosts may reach this one at.
func (a *agent) addresses(advertise []netip.Addr) ([]netip.Addr, error) {
	if len(advertise) > 0 {
		return advertise, nil
	}
	found, err := device.Discover(device.Options{Tunnel: a.opts.Config.WireGuard.Device, Interfaces: a.opts.Config.Interfaces})
	if err != nil {
		return nil, err
	}
	return found.Addresses, nil
}

// nodeName returns the name given, or the host's own.
func nodeName(given string) (string, error) {
	if given == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("read host name: %w: choose one with --node-name", err)
		}
		given, _, _ = strings.Cut(strings.ToLower(host), ".")
	}
	return given, mesh.ValidateNodeName(given)
}

// invalid marks err as the caller's to mend.
func invalid(err error) error {
	if answer := (*api.Error)(nil); errors.As(err, &answer) {
		return err
	}
	return &api.Error{Code: "invalid", Text: err.Error()}
}
