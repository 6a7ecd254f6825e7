package wg

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/mesh"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// staleAfter is how long after the last handshake a peer's session is dead: a
// live one is renewed after 2 minutes and refused after 3 (WireGuard paper,
// section 6.1, REJECT_AFTER_TIME).
const staleAfter = 3 * time.Minute

// change is what one peer of the device lacks.
type change struct {
	node     string
	peer     wgtypes.PeerConfig
	endpoint netip.AddrPort // that counts as configured once this is written
}

// settingsChange returns what of c's key, port and mark the device lacks. The
// private key is written only if it differs, because writing it ends every
// session.
func settingsChange(have *wgtypes.Device, c Config) (cfg wgtypes.Config, differs bool) {
	if key := c.PrivateKey.Bytes(); subtle.ConstantTimeCompare(key[:], have.PrivateKey[:]) == 0 {
		cfg.PrivateKey, differs = (*wgtypes.Key)(&key), true
	}
	if port := int(c.Port); port != have.ListenPort && port != 0 {
		cfg.ListenPort, differs = &port, true
	}
	if mark := int(c.FirewallMark); mark != have.FirewallMark {
		cfg.FirewallMark, differs = &mark, true
	}
	return cfg, differs
}

// peerChanges returns what the device lacks of want, sorted by key. configured
// holds the endpoints set before; it is noted when an endpoint is kept.
func peerChanges(have *wgtypes.Device, want map[mesh.Key]encryption.Peer, configured map[mesh.Key]netip.AddrPort, now time.Time) []change {
	at := make(map[mesh.Key]*wgtypes.Peer, len(have.Peers))
	for i := range have.Peers {
		at[mesh.Key(have.Peers[i].PublicKey)] = &have.Peers[i]
	}
	var changes []change
	for _, key := range slices.SortedFunc(maps.Keys(want), compareKey) {
		w, h := want[key], at[key]
		if h == nil {
			changes = append(changes, newPeer(w))
			continue
		}
		last, known := configured[key]
		if !known { // the run before this one configured it; a working one stands
			last = w.Endpoint
			configured[key] = last
		}
		if c, differs := correctPeer(*h, w, last, now); differs {
			changes = append(changes, c)
		}
	}
	return changes
}

// newPeer returns the change that adds w.
func newPeer(w encryption.Peer) change {
	c := change{node: w.Node, endpoint: w.Endpoint, peer: wgtypes.PeerConfig{
		PublicKey:  wgtypes.Key(w.Key),
		AllowedIPs: ipNets(w.AllowedIPs),
	}}
	if w.Endpoint.IsValid() {
		c.peer.Endpoint = net.UDPAddrFromAddrPort(w.Endpoint)
	}
	if w.Keepalive != 0 {
		c.peer.PersistentKeepaliveInterval = &w.Keepalive
	}
	return c
}

// correctPeer returns the change that brings h to w. A prefix that another peer
// has moves with the addition, in one step inside WireGuard.
func correctPeer(h wgtypes.Peer, w encryption.Peer, last netip.AddrPort, now time.Time) (change, bool) {
	c := change{node: w.Node, endpoint: w.Endpoint, peer: wgtypes.PeerConfig{PublicKey: h.PublicKey, UpdateOnly: true}}
	differs := false
	if replaceEndpoint(h, w.Endpoint, last, now) {
		c.peer.Endpoint, differs = net.UDPAddrFromAddrPort(w.Endpoint), true
	}
	if h.PersistentKeepaliveInterval != w.Keepalive {
		c.peer.PersistentKeepaliveInterval, differs = &w.Keepalive, true
	}
	has := prefixes(h.AllowedIPs)
	lacks := slices.DeleteFunc(slices.Clone(w.AllowedIPs), func(p netip.Prefix) bool { return slices.Contains(has, p) })
	if len(lacks) > 0 {
		c.peer.AllowedIPs, differs = ipNets(lacks), true
	}
	return c, differs
}

// replaceEndpoint reports whether the configured endpoint should replace the one
// that h has: if it is new, or if nothing has been heard from h for so long that
// where it roamed to is worth nothing.
func replaceEndpoint(h wgtypes.Peer, want, last netip.AddrPort, now time.Time) bool {
	if !want.IsValid() || addrPort(h.Endpoint) == want {
		return false
	}
	return want != last || now.Sub(h.LastHandshakeTime) > staleAfter
}

// removals returns the peers to remove of those that want does not name, and
// the prefixes to take from those that it does, as far as ours agrees.
//
// WireGuard before Linux 6.16 can take a prefix from a peer only by replacing
// all of them, which drops traffic meanwhile. So such prefixes are added to a
// placeholder peer, which takes them from their holder and touches no other,
// and the placeholder is removed in the same message. Nobody holds its private
// key, which is a random number's.
func removals(have *wgtypes.Device, want map[mesh.Key]encryption.Peer, ours func(mesh.Key, netip.Prefix) bool) ([]wgtypes.PeerConfig, error) {
	var gone []wgtypes.PeerConfig
	var strays []netip.Prefix
	wanted := allPrefixes(want)
	for _, h := range have.Peers {
		key := mesh.Key(h.PublicKey)
		if _, ok := want[key]; !ok {
			if ours(key, netip.Prefix{}) {
				gone = append(gone, wgtypes.PeerConfig{PublicKey: h.PublicKey, Remove: true, UpdateOnly: true})
			}
			continue
		}
		for _, p := range prefixes(h.AllowedIPs) {
			// One that any peer should have is moved by Ensure, never removed.
			if !wanted[p] && ours(key, p) {
				strays = append(strays, p)
			}
		}
	}
	if len(strays) == 0 {
		return gone, nil
	}
	placeholder, err := unheldKey()
	if err != nil {
		return nil, err
	}
	return append(gone,
		wgtypes.PeerConfig{PublicKey: placeholder, AllowedIPs: ipNets(strays)},
		wgtypes.PeerConfig{PublicKey: placeholder, Remove: true}), nil
}

// unheldKey returns a public key whose private key nobody has.
func unheldKey() (wgtypes.Key, error) {
	var k wgtypes.Key
	if _, err := rand.Read(k[:]); err != nil {
		return k, fmt.Errorf("draw placeholder key: %w", err)
	}
	return k, nil
}

func allPrefixes(peers map[mesh.Key]encryption.Peer) map[netip.Prefix]bool {
	all := make(map[netip.Prefix]bool)
	for _, p := range peers {
		for _, a := range p.AllowedIPs {
			all[a] = true
		}
	}
	return all
}

func statuses(have *wgtypes.Device) []PeerStatus {
	out := make([]PeerStatus, 0, len(have.Peers))
	for _, p := range have.Peers {
		out = append(out, PeerStatus{
			Key:           mesh.Key(p.PublicKey),
			Endpoint:      addrPort(p.Endpoint),
			LastHandshake: handshake(p.LastHandshakeTime),
			RxBytes:       p.ReceiveBytes,
			TxBytes:       p.TransmitBytes,
			AllowedIPs:    prefixes(p.AllowedIPs),
		})
	}
	slices.SortFunc(out, func(a, b PeerStatus) int { return compareKey(a.Key, b.Key) })
	return out
}

// handshake maps the Unix epoch, as wgctrl says "never", to the zero Time.
func handshake(t time.Time) time.Time {
	if t.IsZero() || t.Unix() == 0 {
		return time.Time{}
	}
	return t
}

func compareKey(a, b mesh.Key) int { return bytes.Compare(a[:], b[:]) }

func addrPort(a *net.UDPAddr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func ipNets(ps []netip.Prefix) []net.IPNet {
	out := make([]net.IPNet, 0, len(ps))
	for _, p := range ps {
		out = append(out, net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	return out
}

// prefixes returns ns sorted.
func prefixes(ns []net.IPNet) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(ns))
	for _, n := range ns {
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			ones, _ := n.Mask.Size()
			out = append(out, netip.PrefixFrom(a.Unmap(), ones))
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}
