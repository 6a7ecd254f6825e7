package bpfmap

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

// Recall makes anew what is known of whom this host has opened flows to, from the
// tables of flows. Programs that are attached note what comes meanwhile, each after
// its flow is in the table: what they note before the places are emptied is read there.
func (f *Flows) Recall() error {
	if err := f.emptyCalled(); err != nil {
		return err
	}
	var err error
	for _, table := range []*ebpf.Map{f.open, f.opening} {
		lerr := each(table, func(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) {
			if err == nil {
				err = f.noteCalled(k, v)
			}
		})
		if lerr != nil {
			return lerr
		}
	}
	return err
}

func (f *Flows) emptyCalled() error {
	for i := range f.called.MaxEntries() {
		if err := f.called.Update(i, uint32(0), ebpf.UpdateExist); err != nil {
			return fmt.Errorf("forget whom this host has opened flows to: %w", err)
		}
	}
	return nil
}

// noteCalled does what called_note does (bpf/lib/called.h).
func (f *Flows) noteCalled(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) error {
	if policy.Direction(v.Direction) != policy.Egress {
		return nil
	}
	if err := f.called.Update(calledIndex(k.Remote), uint32(1), ebpf.UpdateExist); err != nil {
		return fmt.Errorf("note that this host has opened a flow to %s: %w", k.Remote.Netip(), err)
	}
	return nil
}

// calledIndex is called_index of bpf/lib/called.h, for as many places as 14 bits tell
// apart.
func calledIndex(a bpfobj.PlexusAddr) uint32 {
	first, second := binary.NativeEndian.Uint64(a.Bytes[:8]), binary.NativeEndian.Uint64(a.Bytes[8:])
	return uint32((first ^ second) * 0x9e3779b97f4a7c15 >> (64 - calledBits))
}

const calledBits = 14 // CALLED_BITS
