package wg

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/mesh"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// device is what this package uses of wgctrl.
type device interface {
	Device(name string) (*wgtypes.Device, error)
	ConfigureDevice(name string, cfg wgtypes.Config) error
	Close() error
}

var _ device = (*wgctrl.Client)(nil)

// Options say which device a [Device] drives.
type Options struct {
	Name   string // of the network device; required
	Client device // what to configure it with; nil opens wgctrl at the first use
}

// Config is the whole desired state of the device.
type Config struct {
	PrivateKey   encryption.PrivateKey
	Port         uint16 // UDP port to listen on; 0 lets the system choose, once
	FirewallMark uint32 // on outgoing WireGuard packets; 0 marks none
	Peers        map[mesh.Key]encryption.Peer
	// Known says that peers have this host as a peer already, so that a device
	// without any may greet them. A host that has only just joined may not: its
	// first handshakes would be lost, and 5 s with them.
	Known bool
}

// PeerStatus is what the device says of a peer.
type PeerStatus struct {
	Key           mesh.Key
	Endpoint      netip.AddrPort // where it was last heard from, or configured; zero when unknown
	LastHandshake time.Time      // zero before the first
	RxBytes       int64
	TxBytes       int64
	AllowedIPs    []netip.Prefix
}

// Device drives one WireGuard device. Its methods may be called concurrently.
type Device struct {
	name string

	mu     sync.Mutex
	client device
	memory memory
}

// New returns a driver. It opens nothing, so that it may be made before the
// device is.
func New(o Options) (*Device, error) {
	if o.Name == "" {
		return nil, errors.New("drive WireGuard device: no name given")
	}
	return &Device{name: o.Name, client: o.Client, memory: newMemory()}, nil
}

// Close releases the connection to the kernel. The device stays as it is.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil {
		return nil
	}
	err := d.client.Close()
	d.client = nil
	return err
}

// Ensure adds and corrects whatever c asks for and the device lacks. It writes
// nothing when nothing differs and removes nothing: that is for Prune. Errors of
// several peers are joined; one peer that fails stops no other.
func (d *Device) Ensure(ctx context.Context, c Config) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory.wanted(c.Peers)
	have, err := d.read(ctx)
	if err != nil {
		return err
	}
	settings, differs := settingsChange(have, c)
	if differs {
		if err := d.client.ConfigureDevice(d.name, settings); err != nil {
			return fmt.Errorf("configure WireGuard device %s: %w", d.name, explain(err, c.Port))
		}
	}
	if known := c.Known || len(d.memory.endpoints) > 0; known && len(have.Peers) == 0 {
		if err := d.greet(c.Peers); err != nil {
			return err
		}
		if have, err = d.read(ctx); err != nil {
			return err
		}
	}
	return d.apply(peerChanges(have, c.Peers, d.memory.endpoints, time.Now()))
}

// greet gives peers to a device that has lost them, as when its helper died or
// the host rebooted, and has it shake hands with each at once, by a keepalive
// that is taken back afterwards. The peers still have sessions with the device that was,
// and would send into the void for 15 s until they tried again by themselves
// (WireGuard paper, section 6.2).
func (d *Device) greet(peers map[mesh.Key]encryption.Peer) error {
	changes := peerChanges(&wgtypes.Device{}, peers, d.memory.endpoints, time.Now())
	for i := range changes {
		greeting := time.Second
		changes[i].peer.PersistentKeepaliveInterval = &greeting
	}
	return d.apply(changes)
}

// Prune removes the peers and allowed prefixes that this run wanted once and
// that are not in want. With orphans it also removes those that it never wanted,
// which an earlier run left. It needs no Ensure before it: taking a peer away
// must not wait for what hinders adding others.
func (d *Device) Prune(ctx context.Context, want map[mesh.Key]encryption.Peer, orphans bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, err := d.read(ctx)
	if err != nil {
		return err
	}
	ours := func(k mesh.Key, p netip.Prefix) bool { return orphans || d.memory.had(k, p) }
	gone, err := removals(have, want, ours)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		if err := d.client.ConfigureDevice(d.name, wgtypes.Config{Peers: gone}); err != nil {
			return fmt.Errorf("remove peers of WireGuard device %s: %w", d.name, err)
		}
	}
	d.memory.forget(want)
	return nil
}

// ListPeers returns the peers of the device, sorted by key.
func (d *Device) ListPeers(ctx context.Context) ([]PeerStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, err := d.read(ctx)
	if err != nil {
		return nil, err
	}
	return statuses(have), nil
}

// read returns the device as it is.
func (d *Device) read(ctx context.Context) (*wgtypes.Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.client == nil {
		client, err := wgctrl.New()
		if err != nil {
			return nil, fmt.Errorf("open WireGuard control: %w", err)
		}
		d.client = client
	}
	if err := d.responsive(); err != nil {
		return nil, err
	}
	have, err := d.client.Device(d.name)
	if err != nil {
		return nil, fmt.Errorf("read WireGuard device %s: %w", d.name, err)
	}
	return have, nil
}

// responsive reports a helper that does not answer: wgctrl would wait for it for
// ever. The kernel's own device has no socket, and needs no patience.
func (d *Device) responsive() error {
	if _, err := os.Stat(socketPath(d.name)); err != nil {
		return nil
	}
	if err := probe(d.name); err != nil {
		return fmt.Errorf("read WireGuard device %s: its helper does not answer at %s: %w", d.name, socketPath(d.name), err)
	}
	return nil
}

// explain adds a remedy where err says that the port is taken, as an errno from
// the kernel or in the text that wgctrl makes of wireguard-go's.
func explain(err error, port uint16) error {
	if errors.Is(err, unix.EADDRINUSE) || strings.HasSuffix(err.Error(), fmt.Sprintf("errno=-%d", int(unix.EADDRINUSE))) {
		return fmt.Errorf("another program has UDP port %d: stop it (ss -ulpn shows it), or choose another port: %w", port, err)
	}
	return err
}

// apply writes changes in one call, or, when that fails, peer by peer, so that
// one peer which is refused holds up no other.
func (d *Device) apply(changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := d.write(changes); err == nil || len(changes) == 1 {
		return err
	}
	var errs []error
	for _, c := range changes {
		errs = append(errs, d.write([]change{c}))
	}
	return errors.Join(errs...)
}

func (d *Device) write(changes []change) error {
	cfg := wgtypes.Config{}
	for _, c := range changes {
		cfg.Peers = append(cfg.Peers, c.peer)
	}
	if err := d.client.ConfigureDevice(d.name, cfg); err != nil {
		return fmt.Errorf("configure %d peers of WireGuard device %s, first of node %s: %w", len(changes), d.name, changes[0].node, err)
	}
	for _, c := range changes {
		d.memory.endpoints[mesh.Key(c.peer.PublicKey)] = c.endpoint
	}
	return nil
}
