package bpfmap

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// sweepAfter is how long a flow is over before its entry is removed. Programs
// write in place only into entries whose time is not over, so that after this
// none is still at it, and the kernel may give the memory to another flow. A
// program runs for microseconds.
const sweepAfter = 2 * time.Second

// Swept is what a sweep found and did.
type Swept struct {
	Removed   int           // open flows that were over
	Open      datapath.Fill // with those that are over for less than sweepAfter
	Opening   datapath.Fill // without those that are over
	Fragments datapath.Fill // likewise
}

// Sweep removes the open flows that are over, as nothing else does, and counts
// what is in the tables. It calls pause after each few thousand entries, so that
// the caller can spread the work, and ends with the error of one.
//
// A flow is never over while a CPU passes packets of it without asking: that goes
// on for at most 2.6 s after the flow was asked (bpf/lib/cache.h), when it had a
// minute left at least. An entry is read again right before it is removed; a new flow that
// takes the place of one that is over in between, in a microsecond, is forgotten
// and judged again at its next packet.
func (f *Flows) Sweep(pause func() error) (Swept, error) {
	s := Swept{
		Open:      datapath.Fill{Table: datapath.TableOpen, Max: int(f.open.MaxEntries())},
		Opening:   datapath.Fill{Table: datapath.TableOpening, Max: int(f.opening.MaxEntries())},
		Fragments: datapath.Fill{Table: datapath.TableFragments, Max: int(f.fragments.MaxEntries())},
	}
	over := uint64(sinceBoot())
	err := errors.Join(
		f.sweepOpen(&s, pause),
		batches(f.opening, pause, func(_ []bpfobj.PlexusCtKey, values []bpfobj.PlexusCtValue) error {
			s.Opening.Used += count(values, func(v bpfobj.PlexusCtValue) bool { return v.Expires >= over })
			return nil
		}),
		batches(f.fragments, pause, func(_ []bpfobj.PlexusFragKey, values []bpfobj.PlexusFragValue) error {
			s.Fragments.Used += count(values, func(v bpfobj.PlexusFragValue) bool { return v.Expires >= over })
			return nil
		}))
	if err != nil {
		return s, fmt.Errorf("sweep known flows: %w", err)
	}
	return s, nil
}

func (f *Flows) sweepOpen(s *Swept, pause func() error) error {
	return batches(f.open, pause, func(keys []bpfobj.PlexusCtKey, values []bpfobj.PlexusCtValue) error {
		before := uint64(sinceBoot() - sweepAfter)
		for i := range keys {
			if values[i].Expires >= before {
				s.Open.Used++
				continue
			}
			removed, err := f.sweep(&keys[i], before)
			if err != nil {
				return err
			}
			if removed {
				s.Removed++
			}
		}
		return nil
	})
}

// sweep removes one flow if it is still over.
func (f *Flows) sweep(k *bpfobj.PlexusCtKey, before uint64) (bool, error) {
	var v bpfobj.PlexusCtValue
	err := f.open.Lookup(k, &v)
	if errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && v.Expires >= before {
		return false, nil
	}
	if err != nil {
		return false, flowErr("look up", k, err)
	}
	return true, forget(f.open, k)
}

func count[T any](all []T, is func(T) bool) (n int) {
	for _, v := range all {
		if is(v) {
			n++
		}
	}
	return n
}

// batches calls fn with all entries of a hash, some thousands at a time, and
// pause after each.
func batches[K, V any](table *ebpf.Map, pause func() error, fn func([]K, []V) error) error {
	keys, values := make([]K, batch), make([]V, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := table.BatchLookup(&cursor, keys, values, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return fmt.Errorf("list %s: %w", table, err)
		}
		if err := fn(keys[:n], values[:n]); err != nil || last {
			return err
		}
		if err := pause(); err != nil {
			return err
		}
	}
}
