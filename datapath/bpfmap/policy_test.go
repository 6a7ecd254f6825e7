package bpfmap

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// ruleset holds a key of every shape; rule tells one ruleset from another.
func ruleset(rule policy.RuleID) Ruleset {
	return Ruleset{
		Entries: map[policy.Key]policy.Entry{
			{Identity: 0, Direction: policy.Ingress}:                                                    {Rule: rule},
			{Identity: 300, Direction: policy.Egress}:                                                   {Rule: rule, Deny: true},
			{Identity: 300, Direction: policy.Egress, Protocol: 17}:                                     {Rule: rule},
			{Identity: 300, Direction: policy.Egress, Protocol: 6, Port: 8080, PortBits: 12}:            {Rule: rule},
			{Identity: 300, Direction: policy.Egress, Protocol: 6, Port: 8085, PortBits: 16}:            {Rule: rule, Deny: true},
			{Identity: 300, Direction: policy.Egress, Protocol: 58, Port: 128 << 8, PortBits: 8}:        {Rule: rule},
			{Identity: 0xffffffff, Direction: policy.Ingress, Protocol: 255, Port: 0x8000, PortBits: 1}: {Rule: rule},
		},
		Prefixes: map[netip.Prefix]mesh.Identity{
			netip.MustParsePrefix("10.0.0.0/8"): 1<<24 | 1, netip.MustParsePrefix("2001:db8::/32"): 1<<24 | 2, netip.MustParsePrefix("0.0.0.0/0"): 1<<24 | 3,
		},
	}
}

func TestPolicyLoadSwitchesSlots(t *testing.T) {
	maps, _ := newMaps(t)
	empty := Ruleset{Entries: map[policy.Key]policy.Entry{}, Prefixes: map[netip.Prefix]mesh.Identity{}}
	if got, err := maps.Policy.List(); err != nil || !cmp.Equal(got, empty, prefixes) {
		t.Errorf("before any policy: %+v, %v", got, err)
	}
	for i, want := range []Ruleset{ruleset(1), ruleset(2), empty, ruleset(3)} {
		rev, err := maps.Policy.Load(want)
		if err != nil || rev != uint32(i)+1 {
			t.Fatalf("load %d: revision %d, %v", i, rev, err)
		}
		got, err := maps.Policy.List()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, prefixes); diff != "" {
			t.Errorf("load %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestRejudgeKeepsSlot(t *testing.T) {
	maps, _ := newMaps(t)
	if _, err := maps.Policy.Load(ruleset(1)); err != nil {
		t.Fatal(err)
	}
	rev, err := maps.Policy.Rejudge()
	if err != nil || rev != 3 {
		t.Errorf("revision %d, %v; want 3", rev, err)
	}
	if got, err := maps.Policy.List(); err != nil || !cmp.Equal(got, ruleset(1), prefixes) {
		t.Errorf("rules %+v, %v", got, err)
	}
}

// TestPolicyTooLargeChangesNothing also covers a failure halfway.
func TestPolicyTooLargeChangesNothing(t *testing.T) {
	maps, objs := newMaps(t)
	if _, err := maps.Policy.Load(ruleset(1)); err != nil {
		t.Fatal(err)
	}
	large := Ruleset{Entries: map[policy.Key]policy.Entry{}, Prefixes: map[netip.Prefix]mesh.Identity{}}
	for i := range maps.Policy.verdicts.inner.MaxEntries + 1 {
		large.Entries[policy.Key{Identity: mesh.Identity(i)}] = policy.Entry{}
		large.Prefixes[netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)] = 1
	}
	for name, rules := range map[string]Ruleset{"65537 verdicts": {Entries: large.Entries}, "65537 CIDR prefixes": {Prefixes: large.Prefixes}} {
		if _, err := maps.Policy.Load(rules); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	_ = objs.PlexusCidrV1.Close()
	if _, err := maps.Policy.Load(ruleset(2)); err == nil {
		t.Error("loaded without a map for CIDR peers")
	}
	if rev, err := maps.Policy.Revision(); err != nil || rev != 1 {
		t.Errorf("revision %d, %v; want 1", rev, err)
	}
}

// TestLimitsAreThoseOfTheMaps holds what reviews say before anything is applied
// to what the kernel can hold.
func TestLimitsAreThoseOfTheMaps(t *testing.T) {
	maps, _ := newMaps(t)
	if got := maps.Policy.verdicts.inner.MaxEntries; got != policy.MaxVerdicts {
		t.Errorf("the map of verdicts holds %d, policy.MaxVerdicts is %d", got, policy.MaxVerdicts)
	}
	if got := maps.Policy.cidrs.inner.MaxEntries; got != policy.MaxPrefixes {
		t.Errorf("the map of CIDR peers holds %d, policy.MaxPrefixes is %d", got, policy.MaxPrefixes)
	}
}

// TestPolicyHoldsItsLimit loads as many verdicts as fit.
func TestPolicyHoldsItsLimit(t *testing.T) {
	maps, _ := newMaps(t)
	full := Ruleset{Entries: map[policy.Key]policy.Entry{}}
	for i := range maps.Policy.verdicts.inner.MaxEntries {
		full.Entries[policy.Key{Identity: mesh.Identity(i)}] = policy.Entry{Rule: policy.RuleID(i)}
	}
	if _, err := maps.Policy.Load(full); err != nil {
		t.Fatal(err)
	}
	if got, err := maps.Policy.List(); err != nil || !cmp.Equal(got.Entries, full.Entries) {
		t.Errorf("%d entries, %v; want %d", len(got.Entries), err, len(full.Entries))
	}
}

// TestRevisionsAreNotLost changes from several sides at once.
func TestRevisionsAreNotLost(t *testing.T) {
	maps, _ := newMaps(t)
	const workers, rounds = 4, 20
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if _, err := maps.Policy.Rejudge(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if rev, err := maps.Policy.Revision(); err != nil || rev != workers*rounds*rejudge {
		t.Errorf("revision %d, %v; want %d", rev, err, workers*rounds*rejudge)
	}
}

func TestPolicyKeyRoundTrip(t *testing.T) {
	for want := range ruleset(1).Entries {
		if got := policyKeyFrom(policyKeyOf(want)); got != want {
			t.Errorf("key %+v came back as %+v", want, got)
		}
	}
}

// TestSlotsShareNothing shows that a map that was in force stays whole while the
// next one is filled.
func TestSlotsShareNothing(t *testing.T) {
	maps, _ := newMaps(t)
	if _, err := maps.Policy.Load(ruleset(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Policy.Load(ruleset(2)); err != nil {
		t.Fatal(err)
	}
	got := map[policy.Key]policy.Entry{}
	if err := maps.Policy.verdicts.read(1, func(m *ebpf.Map) error { return readVerdicts(m, got) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ruleset(1).Entries, got); diff != "" {
		t.Errorf("slot of the rules before (-want +got):\n%s", diff)
	}
}
