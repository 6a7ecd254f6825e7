package datapath

import (
	"net/netip"
	"testing"

	"github.com/plexusmesh/plexus/policy"
)

func TestPinholeInWords(t *testing.T) {
	for want, h := range map[string]Pinhole{
		"ingress 22/TCP": {Direction: policy.Ingress, Protocol: 6, Port: 22},
		"ingress 22/TCP from 192.0.2.0/24": {
			Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix("192.0.2.0/24"),
		},
		"egress 53/UDP to 2001:db8::53/128": {
			Direction: policy.Egress, Protocol: 17, Port: 53, Remote: netip.MustParsePrefix("2001:db8::53/128"),
		},
	} {
		if got := h.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestHoldsMapped(t *testing.T) {
	for prefix, want := range map[string]bool{
		"::/0": true, "::/80": true, "::ffff:0:0/96": true, "::ffff:192.0.2.1/128": true,
		"0.0.0.0/0": false, "192.0.2.0/24": false, "2000::/3": false, "64:ff9b::/96": false,
	} {
		if got := HoldsMapped(netip.MustParsePrefix(prefix)); got != want {
			t.Errorf("%s: %v, want %v", prefix, got, want)
		}
	}
	if HoldsMapped(netip.Prefix{}) {
		t.Error("everybody is taken for a prefix")
	}
}
