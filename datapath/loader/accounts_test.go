package loader

import (
	"net/netip"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
)

// accounts compares what is known of flows that are allowed.
func (s *subject) accounts() {
	s.t.Helper()
	listed, err := s.maps.Flows.List()
	if err != nil {
		s.t.Fatal(err)
	}
	s.now = s.waited + time.Since(s.born)
	got, want := map[flowKey]datapath.Flow{}, map[flowKey]datapath.Flow{}
	for _, f := range listed {
		key := flowKey{f.Remote, f.Local, f.Protocol, f.Tunnel}
		if known := s.flows[key]; known != nil && known.moved {
			f = known.atMost(f)
		}
		if f.Expires >= 0 {
			got[key] = f
		}
	}
	for key, f := range s.flows {
		if f.expires >= s.now && f.reason == fine {
			want[key] = f.listed(key, s.now)
		}
	}
	soon := cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < 2*time.Second })
	same := []cmp.Option{cmp.AllowUnexported(flowKey{}), cmpopts.EquateComparable(netip.AddrPort{}), soon}
	if diff := cmp.Diff(want, got, same...); diff != "" {
		s.t.Errorf("known flows (-model +kernel):\n%s", diff)
	}
}

// listed is a flow as the agent lists it.
func (f *tracked) listed(key flowKey, now time.Duration) datapath.Flow {
	return datapath.Flow{
		Direction: f.direction, Protocol: key.protocol, Local: key.local, Remote: key.remote, Identity: f.identity, Rule: f.rule,
		Revision: f.revision, Tunnel: key.tunnel, Open: f.open, State: f.state, Expires: f.expires - now,
		RxPackets: f.packets[0], RxBytes: f.bytes[0], TxPackets: f.packets[1], TxBytes: f.bytes[1],
	}
}

// atMost puts the model's counts in the place of lower ones.
func (f *tracked) atMost(got datapath.Flow) datapath.Flow {
	got.RxPackets, got.RxBytes = max(got.RxPackets, f.packets[0]), max(got.RxBytes, f.bytes[0])
	got.TxPackets, got.TxBytes = max(got.TxPackets, f.packets[1]), max(got.TxBytes, f.bytes[1])
	return got
}
