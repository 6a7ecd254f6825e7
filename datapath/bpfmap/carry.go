package bpfmap

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// Lifetimes of flows, as in bpf/lib/conntrack.h.
const (
	lifetimeSyn         = time.Minute
	lifetimeEstablished = 6 * time.Hour
	lifetimeClosing     = 10 * time.Second
	lifetimeDatagram    = time.Minute
	lifetimeReplied     = 3 * time.Minute
	lifetimeICMP        = 30 * time.Second
)

const (
	stateSyn         = uint8(bpfobj.PlexusTcpStateTCP_STATE_SYN)
	stateEstablished = uint8(bpfobj.PlexusTcpStateTCP_STATE_ESTABLISHED)
	stateClosing     = uint8(bpfobj.PlexusTcpStateTCP_STATE_CLOSING)
	replySeen        = uint8(bpfobj.PlexusCtFlagsCT_REPLY_SEEN)
	opened           = uint8(bpfobj.PlexusCtFlagsCT_OPENED)
)

// Carry makes the flows of an older version's table known, which had one for all
// of them, in today's layout of keys and values. Of what both know of a flow, the
// newer stands: it may be called again for what has happened since.
//
// A program that takes a packet of a flow between our look at it and our write
// loses what that packet changed. That is at most the end of a connection, which
// then stays known for longer than it needs to be.
func (f *Flows) Carry(older *ebpf.Map) error {
	if err := sameLayout(older, f.open); err != nil {
		return err
	}
	now := uint64(sinceBoot())
	var errs []error
	err := each(older, func(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) {
		if v.Expires >= now {
			errs = append(errs, f.carry(k, v), f.noteCalled(k, v))
		}
	})
	return errors.Join(append(errs, err)...)
}

func sameLayout(a, b *ebpf.Map) error {
	if a.KeySize() == b.KeySize() && a.ValueSize() == b.ValueSize() {
		return nil
	}
	return fmt.Errorf("read flows of %s: keys of %d and values of %d bytes, want %d and %d: another version made it: run `plexusd cleanup`, which forgets known flows, and start again",
		a, a.KeySize(), a.ValueSize(), b.KeySize(), b.ValueSize())
}

// carry makes one flow known.
func (f *Flows) carry(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) error {
	have, kept, err := f.find(k)
	if err != nil {
		return err
	}
	if have != nil && touched(k, have) >= touched(k, v) {
		return nil
	}
	if !kept && !isOpen(k, v) {
		return put(f.opening, k, v)
	}
	err = put(f.open, k, v)
	if errors.Is(err, errTableFull) {
		return put(f.opening, k, v)
	}
	if err == nil && have != nil && !kept {
		return forget(f.opening, k)
	}
	return err
}

// find returns what is known of a flow, nil for nothing, and whether it is among
// the open ones.
func (f *Flows) find(k *bpfobj.PlexusCtKey) (v *bpfobj.PlexusCtValue, kept bool, err error) {
	v = &bpfobj.PlexusCtValue{}
	for _, table := range []*ebpf.Map{f.open, f.opening} {
		err := table.Lookup(k, v)
		if err == nil {
			return v, table == f.open, nil
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, false, flowErr("look up", k, err)
		}
	}
	return nil, false, nil
}

func flowErr(what string, k *bpfobj.PlexusCtKey, err error) error {
	return fmt.Errorf("%s flow with %s port %d: %w", what, k.Remote.Netip(), bpfobj.NetworkOrder(k.RemotePort), err)
}

// errTableFull is what the kernel answers when a hash is full.
const errTableFull = unix.E2BIG

func put(table *ebpf.Map, k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) error {
	if err := table.Update(k, v, ebpf.UpdateAny); err != nil {
		return flowErr("write", k, err)
	}
	return nil
}

// forget removes a flow that may be gone already.
func forget(table *ebpf.Map, k *bpfobj.PlexusCtKey) error {
	if err := table.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return flowErr("forget", k, err)
	}
	return nil
}

// CopyTo writes every flow that is not over into an older version's table, those
// that are open last, as it may evict what came first.
func (f *Flows) CopyTo(older *ebpf.Map) error {
	if err := sameLayout(older, f.open); err != nil {
		return err
	}
	now := uint64(sinceBoot())
	for _, table := range []*ebpf.Map{f.opening, f.open} {
		if err := copyLive(older, table, now); err != nil {
			return err
		}
	}
	return nil
}

func copyLive(to, from *ebpf.Map, now uint64) error {
	var keys []bpfobj.PlexusCtKey
	var values []bpfobj.PlexusCtValue
	err := each(from, func(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) {
		if v.Expires >= now {
			keys, values = append(keys, *k), append(values, *v)
		}
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	if _, err := to.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("copy %d flows for an older version: %w", len(keys), err)
	}
	return nil
}

// isOpen reports whether a flow belongs among those that nothing evicts: both
// sides have shown that they are there. Pings live too shortly.
func isOpen(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) bool {
	if v.Flags&replySeen == 0 || k.Protocol == unix.IPPROTO_ICMP || k.Protocol == unix.IPPROTO_ICMPV6 {
		return false
	}
	return v.TcpState == stateEstablished || v.TcpState == 0
}

// touched returns when a flow's last packet came or it was denied, in nanoseconds
// since boot. It is negative for a value that was made otherwise, on a host that
// has not been up for as long as such a flow is kept.
func touched(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) int64 {
	return int64(v.Expires) - int64(lifetime(k.Protocol, v.TcpState, v.Flags))
}

// lifetime returns how long a flow is kept without a packet.
func lifetime(protocol, state, flags uint8) time.Duration {
	switch {
	case state == stateSyn:
		return lifetimeSyn
	case state == stateEstablished:
		return lifetimeEstablished
	case state == stateClosing:
		return lifetimeClosing
	case protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6:
		return lifetimeICMP
	case flags&replySeen != 0:
		return lifetimeReplied
	}
	return lifetimeDatagram
}
