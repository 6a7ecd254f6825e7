package bpfmap

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

// kernelMaps creates every map of the programs, small and pinned nowhere.
func kernelMaps(t testing.TB) *bpfobj.PlexusMaps {
	t.Helper()
	netnstest.Require(t)
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := bpfobj.LoadPlexus()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
	}
	spec.Maps[bpfobj.PlexusMapPlexusCtV2].MaxEntries = 16384
	objs := &bpfobj.PlexusMaps{}
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = objs.Close() })
	return objs
}

func newMaps(t testing.TB) (*Maps, *bpfobj.PlexusMaps) {
	t.Helper()
	objs := kernelMaps(t)
	m, err := New(objs)
	if err != nil {
		t.Fatal(err)
	}
	return m, objs
}
