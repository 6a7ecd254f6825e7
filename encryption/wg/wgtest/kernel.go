package wgtest

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// The operations that can be made to fail.
const (
	OpDevice    = "device"
	OpConfigure = "configure"
)

// Kernel is a WireGuard with one device. It has the methods of wgctrl.Client
// that package wg uses.
type Kernel struct {
	mu     sync.Mutex
	name   string
	device wgtypes.Device // without its peers
	peers  map[wgtypes.Key]*wgtypes.Peer
	fail   map[string]error
	calls  []string
	greets int
}

// New returns a Kernel whose only device is called name and has no key.
func New(name string) *Kernel {
	return &Kernel{
		name:   name,
		device: wgtypes.Device{Name: name, Type: wgtypes.LinuxKernel},
		peers:  make(map[wgtypes.Key]*wgtypes.Peer),
		fail:   make(map[string]error),
	}
}

// FailNext makes the next call of op fail with err and change nothing.
func (k *Kernel) FailNext(op string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail[op] = err
}

// Count returns how many calls of op there were.
func (k *Kernel) Count(op string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := 0
	for _, c := range k.calls {
		if c == op {
			n++
		}
	}
	return n
}

// Hear makes the peer known at endpoint with a handshake at that time, as a
// packet from it would.
func (k *Kernel) Hear(key [32]byte, endpoint netip.AddrPort, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.peers[key]
	p.Endpoint, p.LastHandshakeTime = net.UDPAddrFromAddrPort(endpoint), at
}

// Replace puts a new device in the place of the old one, as happens when its
// helper dies.
func (k *Kernel) Replace() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.device = wgtypes.Device{Name: k.name, Type: wgtypes.LinuxKernel}
	clear(k.peers)
}

// Greets returns how many handshakes were begun by turning a keepalive on.
func (k *Kernel) Greets() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.greets
}

// Device implements the reading half of the seam of package wg.
func (k *Kernel) Device(name string) (*wgtypes.Device, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpDevice, name); err != nil {
		return nil, err
	}
	d := k.device
	for _, p := range k.peers {
		c := *p
		c.AllowedIPs = slices.Clone(p.AllowedIPs)
		d.Peers = append(d.Peers, c)
	}
	return &d, nil
}

// ConfigureDevice implements the writing half.
func (k *Kernel) ConfigureDevice(name string, cfg wgtypes.Config) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(OpConfigure, name); err != nil {
		return err
	}
	if cfg.PrivateKey != nil {
		k.device.PrivateKey, k.device.PublicKey = *cfg.PrivateKey, cfg.PrivateKey.PublicKey()
	}
	if cfg.ListenPort != nil {
		k.device.ListenPort = *cfg.ListenPort
	}
	if cfg.FirewallMark != nil {
		k.device.FirewallMark = *cfg.FirewallMark
	}
	if cfg.ReplacePeers {
		clear(k.peers)
	}
	for _, p := range cfg.Peers {
		k.configurePeer(p)
	}
	return nil
}

// Close implements the seam.
func (k *Kernel) Close() error { return nil }

// begin records the call and returns a planted error.
func (k *Kernel) begin(op, name string) error {
	k.calls = append(k.calls, op)
	if err := k.fail[op]; err != nil {
		delete(k.fail, op)
		return err
	}
	if name != k.name {
		return fmt.Errorf("device %s: %w", name, os.ErrNotExist)
	}
	return nil
}

func (k *Kernel) configurePeer(cfg wgtypes.PeerConfig) {
	p := k.peers[cfg.PublicKey]
	switch {
	case cfg.PublicKey == k.device.PublicKey: // WireGuard ignores itself
		return
	case cfg.Remove:
		delete(k.peers, cfg.PublicKey)
		return
	case p == nil && cfg.UpdateOnly:
		return
	case p == nil:
		p = &wgtypes.Peer{PublicKey: cfg.PublicKey}
		k.peers[cfg.PublicKey] = p
	}
	if cfg.Endpoint != nil {
		p.Endpoint = cfg.Endpoint
	}
	if cfg.PersistentKeepaliveInterval != nil {
		if p.PersistentKeepaliveInterval == 0 && *cfg.PersistentKeepaliveInterval != 0 {
			k.greets++ // WireGuard sends the first one at once
		}
		p.PersistentKeepaliveInterval = *cfg.PersistentKeepaliveInterval
	}
	if cfg.ReplaceAllowedIPs {
		p.AllowedIPs = nil
	}
	for _, ip := range cfg.AllowedIPs {
		k.allow(p, ip)
	}
}

// allow gives ip to p and takes it from whoever has it.
func (k *Kernel) allow(p *wgtypes.Peer, ip net.IPNet) {
	for _, other := range k.peers {
		other.AllowedIPs = slices.DeleteFunc(other.AllowedIPs, func(o net.IPNet) bool { return o.String() == ip.String() })
	}
	p.AllowedIPs = append(p.AllowedIPs, ip)
}

// String returns the state of the device, a line a peer, sorted: the first
// character of its key, its endpoint, keepalive and allowed prefixes.
func (k *Kernel) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "port=%d mark=%d key=%t\n", k.device.ListenPort, k.device.FirewallMark, k.device.PrivateKey != wgtypes.Key{})
	keys := slices.SortedFunc(maps.Keys(k.peers), func(a, b wgtypes.Key) int { return strings.Compare(string(a[:]), string(b[:])) })
	for _, key := range keys {
		p := k.peers[key]
		var ips []string
		for _, ip := range p.AllowedIPs {
			ips = append(ips, ip.String())
		}
		slices.Sort(ips)
		fmt.Fprintf(&b, "%c %v keepalive=%s %s\n", key[0], p.Endpoint, p.PersistentKeepaliveInterval, strings.Join(ips, ","))
	}
	return b.String()
}
