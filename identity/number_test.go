package identity_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

func TestRanges(t *testing.T) {
	first, last := identity.Range(42)
	if first != 2752512 || last != 2818047 {
		t.Errorf("range of cluster 42 is %d to %d, want 2752512 to 2818047", first, last)
	}
	for id, want := range map[mesh.Identity]uint32{first: 42, last: 42, 9: 0, 1<<24 | 42<<16: 0} {
		if got := identity.Cluster(id); got != want {
			t.Errorf("identity %d is of cluster %d, want %d", id, got, want)
		}
	}
	if identity.IsReserved(256) || !identity.IsReserved(255) || !identity.IsLocal(1<<24) || identity.IsLocal(last) || identity.IsLocal(2<<24) {
		t.Error("reserved identities end at 255, local ones have scope 1")
	}
}

func TestParseNumber(t *testing.T) {
	for in, want := range map[string]mesh.Identity{"0": 0, "2752512": 2752512, "4294967295": 4294967295} {
		if got, err := identity.ParseNumber(in); err != nil || got != want {
			t.Errorf("ParseNumber(%q) = %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "4294967296", "0x1", "1 "} {
		if got, err := identity.ParseNumber(in); err == nil {
			t.Errorf("ParseNumber(%q) = %d, want an error", in, got)
		}
	}
}

func prefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	return out
}

// TestNumberPrefixesAreDistinct has so many prefixes that some hashes collide.
func TestNumberPrefixesAreDistinct(t *testing.T) {
	const n = 30000 // the chance that no two of 2^24 numbers meet is 1e-12
	numbers := identity.NumberPrefixes(prefixes(n))
	seen := make(map[mesh.Identity]netip.Prefix, n)
	for p, id := range numbers {
		if other, taken := seen[id]; taken {
			t.Fatalf("%s and %s both have identity %d", p, other, id)
		}
		if !identity.IsLocal(id) {
			t.Fatalf("%s has identity %d, which is not local", p, id)
		}
		seen[id] = p
	}
	if len(seen) != n {
		t.Errorf("%d prefixes got %d numbers", n, len(seen))
	}
}

func TestNumberPrefixesDependOnThePrefixAlone(t *testing.T) {
	ps := prefixes(50)
	all := identity.NumberPrefixes(ps)
	for _, p := range ps {
		if alone := identity.NumberPrefixes([]netip.Prefix{p, p}); alone[p] != all[p] {
			t.Errorf("%s is %d alone and %d among others", p, alone[p], all[p])
		}
	}
	slices.Reverse(ps)
	if diff := cmp.Diff(all, identity.NumberPrefixes(ps), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("numbers depend on order:\n%s", diff)
	}
}

// TestNumberOfAPrefixIsKept pins the hash: pinned flows of an earlier release
// carry these numbers.
func TestNumberOfAPrefixIsKept(t *testing.T) {
	p := netip.MustParsePrefix("192.0.2.0/24")
	q := netip.MustParsePrefix("2001:db8::/32")
	got := identity.NumberPrefixes([]netip.Prefix{p, q})
	if s := fmt.Sprint(got[p], " ", got[q]); s != pinnedNumbers {
		t.Errorf("numbers are %s, want %s", s, pinnedNumbers)
	}
}

const pinnedNumbers = "23628333 21723365"

func TestPrefixLabels(t *testing.T) {
	known := identity.NumberPrefixes([]netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.1.2.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0"),
	})
	for prefix, want := range map[string]string{
		"10.1.0.0/16":   "cidr:10.0.0.0/8=;cidr:10.1.0.0/16=;reserved:world=;reserved:world-ipv4=;",
		"2001:db8::/32": "cidr:::/0=;reserved:world=;reserved:world-ipv6=;",
	} {
		if got := identity.PrefixLabels(netip.MustParsePrefix(prefix), known).String(); got != want {
			t.Errorf("labels of %s are %s, want %s", prefix, got, want)
		}
	}
}
