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
// A flow that opens moves from one table to the other, and is in both before it leaves
// the first: so that is read first.
func (f *Flows) Recall() error {
	if err := f.emptyCalled(); err != nil {
		return err
	}
	var called [1 << calledBits]bool
	for _, table := range []*ebpf.Map{f.opening, f.open} {
		err := each(table, func(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) {
			if policy.Direction(v.Direction) == policy.Egress {
				called[calledIndex(k.Remote)] = true
			}
		})
		if err != nil {
			return err
		}
	}
	for i, is := range called {
		if is {
			if err := f.writeCalled(uint32(i)); err != nil {
				return err
			}
		}
	}
	return nil
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
	return f.writeCalled(calledIndex(k.Remote))
}

func (f *Flows) writeCalled(index uint32) error {
	if err := f.called.Update(index, uint32(1), ebpf.UpdateExist); err != nil {
		return fmt.Errorf("note whom this host has opened a flow to: %w", err)
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
