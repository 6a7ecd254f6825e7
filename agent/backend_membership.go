package agent

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/keys"
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
	key, err := keys.LoadOrCreate(wireGuardKey(a.opts.Config.StateDir))
	if err != nil {
		return api.Joined{}, err
	}
	opts.Key = key.Public()
	server, e, err := bootstrap.Init(ctx, opts)
	if err != nil {
		return api.Joined{}, worded(err)
	}
	s, err := a.assemble(e, key, server)
	if err != nil {
		return api.Joined{}, errors.Join(err, bootstrap.Remove(a.opts.Config.StateDir))
	}
	a.start(s)
	s.member.awaitGoverned(ctx)
	text, created, err := server.Registry.CreateToken(ctx, registry.TokenOptions{Author: localAuthor})
	if err != nil {
		return api.Joined{}, fmt.Errorf("the mesh is made, but no join token: %w", err)
	}
	return api.Joined{
		Node:  s.member.status(ctx).Node,
		Token: &api.TokenCreated{Token: text, ID: created.ID, Expires: created.Expires},
	}, nil
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
	request, key, err := a.joinRequest(r)
	if err != nil {
		return api.Joined{}, invalid(err)
	}
	e, err := client.Join(ctx, request)
	if err != nil {
		return api.Joined{}, worded(err)
	}
	e.Advertise = r.Advertise
	s, err := a.enter(e, key)
	if err != nil {
		return api.Joined{}, errors.Join(err, client.Leave(ctx, e), client.Remove(a.opts.Config.StateDir))
	}
	a.start(s)
	s.member.awaitGoverned(ctx)
	return api.Joined{Node: s.member.status(ctx).Node}, nil
}

func (a *agent) enter(e control.Enrolment, key encryption.PrivateKey) (*session, error) {
	if err := client.Save(a.opts.Config.StateDir, e); err != nil {
		return nil, err
	}
	return a.assemble(e, key, nil)
}

func (a *agent) joinRequest(r api.JoinRequest) (client.Request, encryption.PrivateKey, error) {
	t, err := token.Parse(r.Token)
	if err != nil {
		return client.Request{}, encryption.PrivateKey{}, err
	}
	name, err := nodeName(r.NodeName)
	if err != nil {
		return client.Request{}, encryption.PrivateKey{}, err
	}
	addresses, err := a.addresses(r.Advertise)
	if err != nil {
		return client.Request{}, encryption.PrivateKey{}, err
	}
	key, err := keys.LoadOrCreate(wireGuardKey(a.opts.Config.StateDir))
	if err != nil {
		return client.Request{}, encryption.PrivateKey{}, err
	}
	return client.Request{
		Token: t, Node: name, Addresses: addresses, Key: key.Public(),
		Port: uint16(a.opts.Config.WireGuard.Port), Version: a.opts.Version,
	}, key, nil
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
func (a *agent) Leave(ctx context.Context, r api.LeaveRequest) error {
	a.busy.Lock()
	defer a.busy.Unlock()
	m, err := a.joined()
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
	return errors.Join(removeAll(ctx, a.opts.Config), a.forget())
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
	if err == nil || force {
		return nil
	}
	return &api.Error{Code: "unavailable", Text: fmt.Sprintf("no server heard that this host leaves, so nothing was changed; plexus leave --force leaves all the same, and plexus node remove %s on a server cleans up there: %v", m.enrolment.Node, err)}
}

// forget removes what this host remembers of the mesh.
func (a *agent) forget() error {
	dir := a.opts.Config.StateDir
	err := os.Remove(wireGuardKey(dir))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(bootstrap.Remove(dir), err)
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
