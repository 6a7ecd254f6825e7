package bpfmap

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

var flowsEqual = cmp.Options{
	cmpopts.EquateComparable(netip.AddrPort{}),
	cmpopts.IgnoreFields(datapath.Flow{}, "Expires"),
	cmpopts.SortSlices(func(a, b datapath.Flow) bool { return a.Local.Compare(b.Local) < 0 }), // no two of a test have the same
}

// TestFlowsList writes more flows than one batch reads.
func TestFlowsList(t *testing.T) {
	maps, _ := newMaps(t)
	var want []datapath.Flow
	for i := range 2*batch + 7 {
		f := datapath.Flow{Direction: policy.Direction(i % 2), Protocol: 6, Expires: time.Hour, State: "established", Tunnel: i%3 == 0, Open: true}
		f.Local = netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i))
		f.Remote = netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), 443)
		if i%5 == 0 {
			f.Local = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), uint16(i))
			f.Remote = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::2"), 443)
		}
		want = append(want, f)
	}
	if err := maps.Flows.Seed(want); err != nil {
		t.Fatal(err)
	}
	got, err := maps.Flows.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, flowsEqual); diff != "" {
		t.Errorf("flows (-want +got):\n%.2000s", diff)
	}
	for _, f := range got {
		if f.Expires > time.Hour || f.Expires < time.Hour-time.Minute {
			t.Fatalf("flow %+v expires in %s, want an hour", f, f.Expires)
		}
	}
}

// TestSeedAmongOpening seeds flows of which packets have made something known
// already, judged by whoever spoke first.
func TestSeedAmongOpening(t *testing.T) {
	live, over := uint64(sinceBoot()+time.Hour), uint64(sinceBoot()-time.Second)
	for _, tt := range []struct {
		name   string
		before bpfobj.PlexusCtValue
		taken  bool // whether the seed stands
	}{
		{"judged from mid-stream", bpfobj.PlexusCtValue{TcpState: stateEstablished, Direction: 1, Expires: live}, true},
		{"opening before our eyes", bpfobj.PlexusCtValue{TcpState: stateSyn, Direction: 1, Expires: live}, false},
		{"an opening that is over", bpfobj.PlexusCtValue{TcpState: stateSyn, Direction: 1, Expires: over}, true},
		{"denied", bpfobj.PlexusCtValue{TcpState: stateEstablished, Direction: 1, Reason: 1, Expires: live}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			maps, objs := newMaps(t)
			seed := datapath.Flow{Protocol: 6, Expires: time.Hour, State: "established",
				Local: netip.MustParseAddrPort("192.0.2.1:22"), Remote: netip.MustParseAddrPort("192.0.2.9:1000")}
			key := flowKeyOf(seed)
			if err := put(objs.PlexusOpeningV1, &key, &tt.before); err != nil {
				t.Fatal(err)
			}
			if err := maps.Flows.Seed([]datapath.Flow{seed}); err != nil {
				t.Fatal(err)
			}
			got, kept, err := maps.Flows.find(&key)
			if err != nil || kept != tt.taken || (got.Direction == 0) != tt.taken {
				t.Errorf("known: %+v, open %v, %v; want the seed: %v", got, kept, err, tt.taken)
			}
			if left := (bpfobj.PlexusCtValue{}); tt.taken && objs.PlexusOpeningV1.Lookup(&key, &left) == nil {
				t.Errorf("what was known before is still there: %+v", left)
			}
		})
	}
}

// TestSeedFindsRoom seeds more flows than may be open.
func TestSeedFindsRoom(t *testing.T) {
	maps, objs := newMaps(t)
	var flows []datapath.Flow
	for i := range int(objs.PlexusCtV2.MaxEntries()) + 100 {
		flows = append(flows, datapath.Flow{Protocol: 6, Expires: time.Hour,
			Local: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i)), Remote: netip.MustParseAddrPort("192.0.2.9:1000")})
	}
	if err := maps.Flows.Seed(flows); err != nil {
		t.Fatal(err)
	}
	if got, err := maps.Flows.List(); err != nil || len(got) != len(flows) {
		t.Errorf("%d flows known, %v; want %d", len(got), err, len(flows))
	}
}
