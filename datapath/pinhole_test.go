package datapath

import (
	"net/netip"
	"strings"
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
		if got, err := ParsePinhole(want); err != nil || got != h {
			t.Errorf("%q came back as %+v, %v", want, got, err)
		}
	}
}

func TestParsePinholeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "malformed",
		"ingress":                            "malformed",
		"forward 22/TCP":                     "malformed",
		"ingress 0/TCP":                      "malformed",
		"ingress 022/TCP":                    "malformed",
		"ingress +22/TCP":                    "malformed",
		"ingress 65536/TCP":                  "malformed",
		"ingress 22":                         "malformed",
		"ingress 22/ICMP":                    "malformed",
		"ingress 22/ANY":                     "malformed",
		"ingress 22/TCP ":                    "malformed",
		"ingress 22/TCP to 192.0.2.1":        "from for ingress",
		"egress 22/TCP from 192.0.2.1":       "to for egress",
		"ingress 22/TCP from":                "malformed",
		"ingress 22/TCP from ":               "neither a prefix nor an address",
		"ingress 22/TCP from example.org":    "neither a prefix nor an address",
		"ingress 22/TCP from fe80::1%eth0":   "neither a prefix nor an address",
		"ingress 22/TCP from 192.0.2.1/24":   "write 192.0.2.0/24",
		"ingress 22/TCP from ::/0":           "2000::/3",
		"ingress 22/TCP from ::ffff:1.2.3.4": "IPv4 prefixes",
	} {
		if h, err := ParsePinhole(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %+v, %v; want an error that says %q", text, h, err, want)
		}
	}
}

func FuzzParsePinhole(f *testing.F) {
	for _, seed := range []string{"ingress 22/TCP", "egress 53/udp to 192.0.2.53", "ingress 8443/SCTP from 2001:db8::/32", "egress 1/TCP to ::/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := ParsePinhole(text)
		if err != nil {
			return
		}
		if h.Port == 0 || HoldsMapped(h.Remote) || h.Remote != h.Remote.Masked() {
			t.Errorf("%q is %+v, which no map can hold", text, h)
		}
		if again, err := ParsePinhole(h.String()); err != nil || again != h {
			t.Errorf("%q is %q, which is %+v, %v", text, h, again, err)
		}
	})
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
