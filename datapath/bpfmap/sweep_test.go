package bpfmap

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

func unhurried() error { return nil }

// numbered returns the key of a flow.
func numbered(i int) bpfobj.PlexusCtKey {
	return flowKeyOf(datapath.Flow{Protocol: 6,
		Local: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i)), Remote: netip.MustParseAddrPort("192.0.2.9:1000")})
}

func writeFlow(t *testing.T, m *ebpf.Map, i int, v bpfobj.PlexusCtValue, left time.Duration) {
	t.Helper()
	k := numbered(i)
	v.Expires = uint64(sinceBoot() + left)
	if err := put(m, &k, &v); err != nil {
		t.Fatal(err)
	}
}

// TestSweep has more flows than one batch reads.
func TestSweep(t *testing.T) {
	maps, objs := newMaps(t)
	const each = batch
	for i := range each {
		writeFlow(t, objs.PlexusCtV2, i, bpfobj.PlexusCtValue{TcpState: stateEstablished}, time.Hour)
		writeFlow(t, objs.PlexusCtV2, each+i, bpfobj.PlexusCtValue{TcpState: stateEstablished}, -time.Minute)
		writeFlow(t, objs.PlexusOpeningV1, i, bpfobj.PlexusCtValue{TcpState: stateSyn}, time.Duration(i%2*60-30)*time.Second)
	}
	writeFlow(t, objs.PlexusCtV2, 2*each, bpfobj.PlexusCtValue{}, -time.Second) // a program may be at it
	writeFlow(t, objs.PlexusCtV2, 2*each+1, bpfobj.PlexusCtValue{Reason: 1}, -time.Minute)
	writeFlow(t, objs.PlexusCtV2, 2*each+2, bpfobj.PlexusCtValue{Reason: 1}, time.Minute)
	for id, left := range map[uint32]time.Duration{1: time.Minute, 2: -time.Minute, 3: time.Minute} {
		if err := objs.PlexusFragV1.Put(&bpfobj.PlexusFragKey{Id: id}, &bpfobj.PlexusFragValue{Expires: uint64(sinceBoot() + left)}); err != nil {
			t.Fatal(err)
		}
	}
	want := Swept{
		Removed:   each + 1,
		Open:      datapath.Fill{Table: datapath.TableOpen, Used: each + 2, Max: 16384},
		Opening:   datapath.Fill{Table: datapath.TableOpening, Used: each / 2, Max: 65536},
		Fragments: datapath.Fill{Table: datapath.TableFragments, Used: 2, Max: 8192},
	}
	got, err := maps.Flows.Sweep(unhurried)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first sweep (-want +got):\n%s", diff)
	}
	want.Removed = 0
	if got, err = maps.Flows.Sweep(unhurried); err != nil || got != want {
		t.Errorf("second sweep: %+v, %v; want %+v", got, err, want)
	}
	for i, there := range map[int]bool{0: true, each: false, 2 * each: true, 2*each + 1: false, 2*each + 2: true} {
		k := numbered(i)
		if _, kept, err := maps.Flows.find(&k); err != nil || kept != there {
			t.Errorf("flow %d is there: %v, %v; want %v", i, kept, err, there)
		}
	}
}

// TestSweepLooksAgain has a packet come after a flow was seen to be over, and
// another sweep.
func TestSweepLooksAgain(t *testing.T) {
	maps, objs := newMaps(t)
	writeFlow(t, objs.PlexusCtV2, 1, bpfobj.PlexusCtValue{}, time.Minute)
	k, gone := numbered(1), numbered(2)
	for _, k := range []*bpfobj.PlexusCtKey{&k, &gone} {
		if removed, err := maps.Flows.sweep(k, uint64(sinceBoot())); removed || err != nil {
			t.Errorf("swept: %v, %v", removed, err)
		}
	}
	if _, kept, err := maps.Flows.find(&k); !kept || err != nil {
		t.Errorf("a flow that lives is gone: %v", err)
	}
}

func TestSweepEndsWithPause(t *testing.T) {
	maps, objs := newMaps(t)
	for i := range 2 * batch {
		writeFlow(t, objs.PlexusCtV2, i, bpfobj.PlexusCtValue{}, time.Minute)
	}
	enough := errors.New("enough")
	if _, err := maps.Flows.Sweep(func() error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want that of the pause", err)
	}
}
