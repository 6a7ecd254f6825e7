package bpfmap

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

func TestFills(t *testing.T) {
	maps, _ := newMaps(t)
	want := []datapath.Fill{
		{Table: datapath.TableVerdicts, Max: 65536}, {Table: datapath.TablePrefixes, Max: 65536}, {Table: datapath.TableAddresses, Max: 524288},
		{Table: datapath.TablePinholes, Max: 4096}, {Table: datapath.TableExemptions, Max: 65536},
	}
	check := func(when string) {
		t.Helper()
		got, err := maps.Fills()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	check("before anything is loaded")
	rules := Ruleset{
		Entries:  map[policy.Key]policy.Entry{{Direction: policy.Ingress}: {}, {Direction: policy.Egress}: {}},
		Prefixes: map[netip.Prefix]mesh.Identity{netip.MustParsePrefix("198.51.100.0/24"): 1 << 24},
	}
	_, err := maps.Policy.Load(rules)
	if err == nil {
		err = maps.IPCache.Apply(map[netip.Prefix]datapath.Peer{netip.MustParsePrefix("192.0.2.1/32"): {}, netip.MustParsePrefix("2001:db8::1/128"): {}}, nil)
	}
	if err == nil {
		err = maps.Pinholes.Apply([]datapath.Pinhole{{Protocol: 6, Port: 22}}, nil)
	}
	if err == nil {
		err = maps.Exemptions.Apply([]datapath.Pinhole{{Protocol: 6, Port: 1}, {Protocol: 6, Port: 2}, {Protocol: 6, Port: 3}}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, used := range []int{2, 1, 2, 1, 3} {
		want[i].Used = used
	}
	check("after")
}
