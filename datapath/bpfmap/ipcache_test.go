package bpfmap

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
)

var prefixes = cmpopts.EquateComparable(netip.Prefix{})

func peersOf(m map[string]datapath.Peer) map[netip.Prefix]datapath.Peer {
	out := make(map[netip.Prefix]datapath.Peer)
	for s, p := range m {
		out[netip.MustParsePrefix(s)] = p
	}
	return out
}

func TestIPCacheKeepsBothFamilies(t *testing.T) {
	maps, _ := newMaps(t)
	want := peersOf(map[string]datapath.Peer{
		"0.0.0.0/0": {Identity: 1}, "10.0.0.0/8": {Identity: 2, Flags: datapath.PeerMesh}, "10.0.0.1/32": {Identity: 3, Flags: datapath.PeerMesh | datapath.PeerLocal},
		"::/0": {Identity: 4}, "2001:db8::/32": {Identity: 5}, "fd00::1/128": {Identity: 6, Flags: datapath.PeerLocal},
	})
	if err := maps.IPCache.Apply(want, nil); err != nil {
		t.Fatal(err)
	}
	got, err := maps.IPCache.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, prefixes); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestIPCacheApply(t *testing.T) {
	maps, _ := newMaps(t)
	a, b, c := netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("fd00::3/128")
	steps := []struct {
		name   string
		upsert map[netip.Prefix]datapath.Peer
		remove []netip.Prefix
		want   map[netip.Prefix]datapath.Peer
		grows  uint32
	}{
		{"nothing", nil, nil, map[netip.Prefix]datapath.Peer{}, 0},
		{"add", map[netip.Prefix]datapath.Peer{a: {Identity: 1}, c: {Identity: 3}}, nil, map[netip.Prefix]datapath.Peer{a: {Identity: 1}, c: {Identity: 3}}, 2},
		{"change and remove", map[netip.Prefix]datapath.Peer{a: {Identity: 9}}, []netip.Prefix{c}, map[netip.Prefix]datapath.Peer{a: {Identity: 9}}, 2},
		{"remove what is not there", nil, []netip.Prefix{b}, map[netip.Prefix]datapath.Peer{a: {Identity: 9}}, 2},
		{"host bits do not count", map[netip.Prefix]datapath.Peer{netip.MustParsePrefix("10.1.2.3/16"): {Identity: 4}}, []netip.Prefix{a},
			map[netip.Prefix]datapath.Peer{netip.MustParsePrefix("10.1.0.0/16"): {Identity: 4}}, 2},
	}
	for _, s := range steps {
		before, _ := maps.Policy.Revision()
		if err := maps.IPCache.Apply(s.upsert, s.remove); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		got, err := maps.IPCache.List()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.want, got, prefixes); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
		if after, _ := maps.Policy.Revision(); after-before != s.grows {
			t.Errorf("%s: revision grew by %d, want %d", s.name, after-before, s.grows)
		}
	}
}

// TestIPCacheTellsEveryFailure closes the map under the driver.
func TestIPCacheTellsEveryFailure(t *testing.T) {
	maps, objs := newMaps(t)
	_ = objs.PlexusIpcacheV1.Close()
	err := maps.IPCache.Apply(peersOf(map[string]datapath.Peer{"10.0.0.1/32": {}}), []netip.Prefix{netip.MustParsePrefix("fd00::3/128")})
	if err == nil || !strings.Contains(err.Error(), "10.0.0.1/32") || !strings.Contains(err.Error(), "fd00::3/128") {
		t.Errorf("error %v does not name both prefixes", err)
	}
}
