package bpfmap

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// Maps are the drivers of one loaded datapath. They share its maps, which stay
// the loader's to close. They may be used by several goroutines, by one process
// at a time.
type Maps struct {
	IPCache    *IPCache
	Policy     *Policy
	Pinholes   *Pinholes
	Exemptions *Pinholes // from the guard of members, in the form of pinholes
	Flows      *Flows
	Counters   *Counters
	Events     *Events
}

// New returns drivers for the maps of objs. It reads and writes nothing.
func New(objs *bpfobj.PlexusMaps) (*Maps, error) {
	spec, err := bpfobj.LoadPlexus()
	if err != nil {
		return nil, fmt.Errorf("decode programs: %w", err)
	}
	rev := &revision{state: objs.PlexusStateV1}
	return &Maps{
		IPCache: &IPCache{trie: objs.PlexusIpcacheV1, revision: rev},
		Policy: &Policy{
			verdicts: slots{outer: objs.PlexusPolicyV1, inner: spec.Maps[bpfobj.PlexusMapPlexusPolicyV1].InnerMap},
			cidrs:    slots{outer: objs.PlexusCidrV1, inner: spec.Maps[bpfobj.PlexusMapPlexusCidrV1].InnerMap},
			revision: rev,
		},
		Pinholes:   &Pinholes{table: objs.PlexusPinholeV2, revision: rev},
		Exemptions: &Pinholes{table: objs.PlexusExemptV1, revision: rev},
		Flows: &Flows{
			open: objs.PlexusCtV2, opening: objs.PlexusOpeningV1, cache: objs.PlexusCacheV1, fragments: objs.PlexusFragV1,
			called: objs.PlexusCalledV1,
		},
		Counters: &Counters{array: objs.PlexusCountersV1},
		Events:   &Events{ring: objs.PlexusEventsV1},
	}, nil
}

// slots is an array of two maps, of which the revision names the one in force.
type slots struct {
	outer *ebpf.Map
	inner *ebpf.MapSpec
}

// fresh returns an empty map that fits into a slot.
func (s slots) fresh() (*ebpf.Map, error) {
	m, err := ebpf.NewMap(s.inner.Copy())
	if err != nil {
		return nil, fmt.Errorf("create policy map: %w", err)
	}
	return m, nil
}

// open returns the map in a slot. It fails with ebpf.ErrKeyNotExist while there
// is none.
func (s slots) open(slot uint32) (*ebpf.Map, error) {
	var m *ebpf.Map
	if err := s.outer.Lookup(slot, &m); err != nil {
		return nil, fmt.Errorf("open policy map in slot %d: %w", slot, err)
	}
	return m, nil
}
