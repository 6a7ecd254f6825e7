package bpfmap

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

// Pinholes is a set of new flows that pass whatever else says: policy, for the
// pinholes proper; the guard of members, for its exemptions.
type Pinholes struct {
	table    *ebpf.Map
	revision *revision
}

// List returns every pinhole, in no order.
func (p *Pinholes) List() ([]datapath.Pinhole, error) {
	var out []datapath.Pinhole
	var key bpfobj.PlexusPinholeKey
	var flags uint32
	it := p.table.Iterate()
	for it.Next(&key, &flags) {
		out = append(out, pinholeOf(key))
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list pinholes: %w", err)
	}
	return out, nil
}

// Apply opens the pinholes of add, then closes those of remove, then has known
// flows judged again. One pinhole that fails stops no other. An IPv6 prefix so
// short that IPv4 addresses lie in it in their mapped form is refused.
func (p *Pinholes) Apply(add, remove []datapath.Pinhole) error {
	var errs []error
	for _, h := range add {
		errs = append(errs, p.open(h))
	}
	for _, h := range remove {
		key := pinholeKeyOf(h)
		if err := p.table.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("close pinhole %s: %w", h, err))
		}
	}
	if len(add)+len(remove) > 0 {
		_, err := p.revision.rejudge()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Pinholes) open(h datapath.Pinhole) error {
	if datapath.HoldsMapped(h.Remote) {
		return fmt.Errorf("open pinhole %s: the prefix holds IPv4 addresses in their mapped form: use longer prefixes", h)
	}
	key := pinholeKeyOf(h)
	err := p.table.Update(&key, uint32(0), ebpf.UpdateAny)
	if errors.Is(err, errNoSpace) {
		return fmt.Errorf("open pinhole %s: the map is full at %d: %w", h, p.table.MaxEntries(), err)
	}
	if err != nil {
		return fmt.Errorf("open pinhole %s: %w", h, err)
	}
	return nil
}

// pinholeFlowBits are those of a pinhole's key that always count: direction,
// protocol and port. Those of the remote address follow.
const pinholeFlowBits = 32

func pinholeKeyOf(h datapath.Pinhole) bpfobj.PlexusPinholeKey {
	key := bpfobj.PlexusPinholeKey{
		Prefixlen: pinholeFlowBits,
		Direction: uint8(h.Direction),
		Protocol:  h.Protocol,
		Port:      bpfobj.NetworkOrder(h.Port),
	}
	if h.Remote.IsValid() {
		remote := bpfobj.PrefixKeyOf(h.Remote.Masked())
		key.Prefixlen += remote.Prefixlen
		key.Remote = remote.Addr
	}
	return key
}

func pinholeOf(key bpfobj.PlexusPinholeKey) datapath.Pinhole {
	h := datapath.Pinhole{
		Direction: policy.Direction(key.Direction),
		Protocol:  key.Protocol,
		Port:      bpfobj.NetworkOrder(key.Port),
	}
	if key.Prefixlen > pinholeFlowBits {
		h.Remote = bpfobj.PlexusPrefixKey{Prefixlen: key.Prefixlen - pinholeFlowBits, Addr: key.Remote}.Netip()
	}
	return h
}
