package bpfobj

import (
	"net/netip"
	"testing"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

func TestEveryReasonHasWords(t *testing.T) {
	seen := make(map[string]PlexusDropReason)
	for r := range PlexusDropReasonDROP_REASONS {
		words := r.String()
		if other, taken := seen[words]; words == "" || taken {
			t.Errorf("reason %d is called %q, as reason %d is", r, words, other)
		}
		seen[words] = r
	}
	if got := PlexusDropReason(200).String(); got != "reason 200" {
		t.Errorf("a reason of a newer program: %q", got)
	}
}

// TestNumbersAgree holds the numbers that pure packages give to what C says.
func TestNumbersAgree(t *testing.T) {
	for name, pair := range map[string][2]int{
		"ingress": {int(policy.Ingress), int(PlexusDirectionDIRECTION_INGRESS)},
		"egress":  {int(policy.Egress), int(PlexusDirectionDIRECTION_EGRESS)},
		"mesh":    {int(datapath.PeerMesh), int(PlexusPeerFlagsPEER_MESH)},
		"local":   {int(datapath.PeerLocal), int(PlexusPeerFlagsPEER_LOCAL)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %d in Go and %d in C", name, pair[0], pair[1])
		}
	}
}

func TestPrefixKeyRoundTrip(t *testing.T) {
	for s, bits := range map[string]uint32{
		"0.0.0.0/0": 96, "10.0.0.0/8": 104, "192.0.2.1/32": 128,
		"::/0": 0, "2001:db8::/32": 32, "fd00::1/128": 128,
	} {
		p := netip.MustParsePrefix(s)
		if k := PrefixKeyOf(p); k.Prefixlen != bits || k.Netip() != p {
			t.Errorf("%s: %d bits, came back as %s", s, k.Prefixlen, k.Netip())
		}
	}
}

func TestNetworkOrder(t *testing.T) {
	if v := NetworkOrder(NetworkOrder(0x1234)); v != 0x1234 {
		t.Errorf("twice: %#x", v)
	}
	k := PlexusPolicyKey{Port: NetworkOrder(0x1234)}
	if a := AddrOf(netip.MustParseAddr("1.2.3.4")); a.Bytes[10] != 0xff || a.Bytes[15] != 4 || k.Port == 0 {
		t.Errorf("address %v", a.Bytes)
	}
}
