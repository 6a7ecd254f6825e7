package bpfmap

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

var pinholesEqual = cmp.Options{
	cmpopts.EquateComparable(netip.Prefix{}),
	cmpopts.SortSlices(func(a, b datapath.Pinhole) bool { return a.Compare(b) < 0 }),
}

func TestPinholesApply(t *testing.T) {
	maps, _ := newMaps(t)
	a := datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 22}
	b := datapath.Pinhole{Direction: policy.Egress, Protocol: 17, Port: 51871}
	narrow := a
	narrow.Remote = netip.MustParsePrefix("192.0.2.0/24")
	for _, s := range []struct {
		add, remove, want []datapath.Pinhole
		grows             uint32
	}{
		{nil, nil, nil, 0},
		{[]datapath.Pinhole{a, b}, nil, []datapath.Pinhole{a, b}, 2},
		{[]datapath.Pinhole{a, narrow}, []datapath.Pinhole{b}, []datapath.Pinhole{a, narrow}, 2},
		{nil, []datapath.Pinhole{a, b}, []datapath.Pinhole{narrow}, 2},
		{nil, []datapath.Pinhole{narrow}, nil, 2},
	} {
		before, _ := maps.Policy.Revision()
		if err := maps.Pinholes.Apply(s.add, s.remove); err != nil {
			t.Fatal(err)
		}
		got, err := maps.Pinholes.List()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.want, got, pinholesEqual); diff != "" {
			t.Errorf("pinholes (-want +got):\n%s", diff)
		}
		if after, _ := maps.Policy.Revision(); after-before != s.grows {
			t.Errorf("revision grew by %d, want %d", after-before, s.grows)
		}
	}
}

// TestPinholeKeys shows that every pinhole has a key of its own, and comes back.
func TestPinholeKeys(t *testing.T) {
	for remote, bits := range map[string]uint32{
		"": 32, "0.0.0.0/0": 128, "10.0.0.0/8": 136, "192.0.2.1/32": 160,
		"2000::/3": 35, "2001:db8::/32": 64, "fd00::1/128": 160,
	} {
		h := datapath.Pinhole{Direction: policy.Egress, Protocol: 17, Port: 53}
		if remote != "" {
			h.Remote = netip.MustParsePrefix(remote)
		}
		if k := pinholeKeyOf(h); k.Prefixlen != bits || pinholeOf(k) != h {
			t.Errorf("%s: %d bits, came back as %s", h, k.Prefixlen, pinholeOf(k))
		}
	}
}

// TestPinholesRefusePrefixesThatHoldIPv4 shows that no pinhole for IPv6 opens IPv4.
func TestPinholesRefusePrefixesThatHoldIPv4(t *testing.T) {
	maps, _ := newMaps(t)
	kept := datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 80, Remote: netip.MustParsePrefix("2000::/3")}
	for _, remote := range []string{"::/0", "::/64", "::fffe:0:0/95"} {
		h := datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix(remote)}
		if err := maps.Pinholes.Apply([]datapath.Pinhole{h, kept}, nil); err == nil {
			t.Errorf("opened %s", h)
		}
	}
	got, err := maps.Pinholes.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]datapath.Pinhole{kept}, got, pinholesEqual); diff != "" {
		t.Errorf("pinholes (-want +got):\n%s", diff)
	}
}
