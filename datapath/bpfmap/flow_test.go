package bpfmap

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

var flowsEqual = cmp.Options{
	cmpopts.EquateComparable(netip.AddrPort{}),
	cmpopts.IgnoreFields(datapath.Flow{}, "Expires"),
	cmpopts.SortSlices(func(a, b datapath.Flow) bool { return fmt.Sprint(a) < fmt.Sprint(b) }),
}

// TestFlowsList writes more flows than one batch reads.
func TestFlowsList(t *testing.T) {
	maps, _ := newMaps(t)
	var want []datapath.Flow
	for i := range 2*batch + 7 {
		f := datapath.Flow{Direction: policy.Direction(i % 2), Protocol: 6, Expires: time.Hour, State: "established", Tunnel: i%3 == 0}
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
