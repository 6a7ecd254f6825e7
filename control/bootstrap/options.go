package bootstrap

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/server"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/embedded"
	"github.com/plexusmesh/plexus/mesh"
)

// Ports are the TCP ports of a server; 0 means the default.
type Ports struct {
	API      uint16 `json:"api"`      // join API; default 7443
	Etcd     uint16 `json:"etcd"`     // etcd, for hosts; default 2379
	EtcdPeer uint16 `json:"etcdPeer"` // etcd, among servers; on loopback; default 2380
}

// Options says what mesh [Init] makes.
type Options struct {
	StateDir       string // required
	Cluster        mesh.Cluster
	ForceClusterID bool // take an id over mesh.MaxPlainClusterID
	Node           string
	Addresses      []netip.Addr      // of this host, preferred first; hosts dial it there
	Advertise      []netip.Addr      // chosen by the administrator: they take the place of Addresses, and are remembered
	Labels         map[string]string // of this host
	Namespace      string            // of this host; default identity.DefaultNamespace
	Pool4          netip.Prefix      // of mesh IPv4 addresses; default control.DefaultPool4
	Key            mesh.Key          // WireGuard public key of this host
	Port           uint16            // WireGuard UDP port; default mesh.WireGuardPort
	Version        string            // of the agent
	Ports          Ports
	Logger         *slog.Logger // required
}

func (p Ports) withDefaults() Ports {
	return Ports{
		API:      cmp.Or(p.API, server.DefaultPort),
		Etcd:     cmp.Or(p.Etcd, embedded.DefaultClientPort),
		EtcdPeer: cmp.Or(p.EtcdPeer, embedded.DefaultPeerPort),
	}
}

func (o Options) withDefaults() Options {
	o.Namespace = cmp.Or(o.Namespace, identity.DefaultNamespace)
	o.Port = cmp.Or(o.Port, mesh.WireGuardPort)
	o.Ports = o.Ports.withDefaults()
	if !o.Pool4.IsValid() {
		o.Pool4 = control.DefaultPool4
	}
	if len(o.Advertise) > 0 {
		o.Addresses = o.Advertise
	}
	o.Addresses = slices.Clone(o.Addresses)
	for i, a := range o.Addresses {
		o.Addresses[i] = a.Unmap()
	}
	return o
}

// claim is what this host says of itself.
func (o Options) claim() mesh.Claim {
	return mesh.Claim{Node: o.Node, Addresses: o.Addresses, Key: o.Key, Port: o.Port, Version: o.Version}
}

// validate joins everything that is wrong, as far as it can be known before
// anything is made.
func (o Options) validate() error {
	errs := []error{
		mesh.ValidateClusterName(o.Cluster.Name),
		mesh.ValidateClusterID(o.Cluster.ID, o.ForceClusterID),
		control.ValidateClaim(o.claim()),
		identity.ValidateNamespace(o.Namespace),
		control.ValidatePool4(o.Pool4, o.Addresses),
		o.validateAddresses(),
	}
	for k, v := range o.Labels {
		errs = append(errs, identity.ValidateLabel(k, v))
	}
	if o.Key.IsZero() {
		errs = append(errs, errors.New("no WireGuard key is given"))
	}
	if o.StateDir == "" || o.Logger == nil {
		errs = append(errs, errors.New("state directory and logger are required"))
	}
	return errors.Join(append(errs, o.Ports.validate(), o.vacant())...)
}

func (o Options) validateAddresses() error {
	if len(o.Addresses) == 0 {
		return errors.New("no address is known at which other hosts reach this one: give one with --advertise")
	}
	for _, a := range o.Addresses {
		if !a.IsGlobalUnicast() {
			return fmt.Errorf("address %s is none that other hosts can reach: give another with --advertise", a)
		}
	}
	return nil
}

// vacant makes sure that no mesh was made or joined here before.
func (o Options) vacant() error {
	for _, name := range []string{settingsFile, "enrolment.json", "ca", "etcd"} {
		path := filepath.Join(o.StateDir, name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("this host is part of a mesh already: %s exists; plexus leave --force forgets it", path)
		}
	}
	return nil
}

// validate makes sure that the ports differ and that nobody listens there.
func (p Ports) validate() error {
	all := []uint16{p.API, p.Etcd, p.EtcdPeer}
	if slices.Sort(all); len(slices.Compact(all)) != 3 {
		return fmt.Errorf("ports %d, %d and %d of the server must differ", p.API, p.Etcd, p.EtcdPeer)
	}
	var errs []error
	for _, address := range []string{p.api(), p.etcd().String(), p.etcdPeer().String()} {
		l, err := server.Listen(address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// api is where the join API listens, on all addresses of both families.
func (p Ports) api() string { return net.JoinHostPort("", strconv.Itoa(int(p.API))) }

func (p Ports) etcd() netip.AddrPort { return netip.AddrPortFrom(netip.IPv4Unspecified(), p.Etcd) }

func (p Ports) etcdPeer() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.EtcdPeer)
}

// servers and etcds are where hosts find this server.
func (o Options) servers() []string {
	return o.each(func(a netip.Addr) string { return netip.AddrPortFrom(a, o.Ports.API).String() })
}

func (o Options) etcds() []string {
	return o.each(func(a netip.Addr) string { return "https://" + netip.AddrPortFrom(a, o.Ports.Etcd).String() })
}

func (o Options) each(f func(netip.Addr) string) []string {
	var out []string
	for _, a := range o.Addresses {
		out = append(out, f(a))
	}
	return out
}
