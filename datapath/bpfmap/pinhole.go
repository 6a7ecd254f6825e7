package bpfmap

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

// Pinholes is the set of new flows that pass whatever policy says.
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
		out = append(out, datapath.Pinhole{
			Direction: policy.Direction(key.Direction),
			Protocol:  key.Protocol,
			Port:      bpfobj.NetworkOrder(key.Port),
		})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list pinholes: %w", err)
	}
	return out, nil
}

// Apply opens the pinholes of add, then closes those of remove, then has known
// flows judged again. One pinhole that fails stops no other.
func (p *Pinholes) Apply(add, remove []datapath.Pinhole) error {
	var errs []error
	for _, h := range add {
		key := pinholeKeyOf(h)
		if err := p.table.Update(&key, uint32(0), ebpf.UpdateAny); err != nil {
			errs = append(errs, fmt.Errorf("open pinhole %+v: %w", h, err))
		}
	}
	for _, h := range remove {
		key := pinholeKeyOf(h)
		if err := p.table.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("close pinhole %+v: %w", h, err))
		}
	}
	if len(add)+len(remove) > 0 {
		_, err := p.revision.rejudge()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func pinholeKeyOf(h datapath.Pinhole) bpfobj.PlexusPinholeKey {
	return bpfobj.PlexusPinholeKey{
		Direction: uint8(h.Direction),
		Protocol:  h.Protocol,
		Port:      bpfobj.NetworkOrder(h.Port),
	}
}
