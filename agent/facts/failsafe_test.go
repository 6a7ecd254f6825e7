package facts

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
)

// some are the ports of a host for which every group has something.
var some = Ports{WireGuard: 51871, API: []uint16{7443}, Etcd: []uint16{2379}, SSH: []uint16{22}}

// opened returns what entries open, in words and sorted.
func opened(t *testing.T, p Ports, entries ...string) []string {
	t.Helper()
	f, err := ParseFailsafe(entries)
	if err != nil {
		t.Fatal(err)
	}
	return Words(slices.Collect(maps.Keys(Services(p, f))))
}

var dhcp = []string{"egress 547/UDP", "egress 67/UDP", "ingress 546/UDP", "ingress 68/UDP"}

func TestFailsafe(t *testing.T) {
	server := some
	server.Server = true
	for _, tt := range []struct {
		name    string
		ports   Ports
		entries []string
		want    []string
	}{
		{"default", some, DefaultFailsafe(), append([]string{
			"egress 2379/TCP", "egress 51871/UDP", "egress 7443/TCP", "ingress 22/TCP", "ingress 51871/UDP",
		}, dhcp...)},
		{"servers keep their own ports open", server, []string{"servers"}, []string{
			"egress 2379/TCP", "egress 7443/TCP", "ingress 2379/TCP", "ingress 7443/TCP",
		}},
		{"no entry", some, nil, nil},
		{"none", some, []string{"none"}, nil},
		{"one group", some, []string{"ssh"}, []string{"ingress 22/TCP"}},
		{"a group from a prefix", some, []string{"ssh from 192.0.2.0/24"}, []string{"ingress 22/TCP from 192.0.2.0/24"}},
		{"a group from several", some, []string{"ssh from 192.0.2.0/24, 2001:db8::/32", "ssh from 198.51.100.7"}, []string{
			"ingress 22/TCP from 192.0.2.0/24", "ingress 22/TCP from 198.51.100.7/32", "ingress 22/TCP from 2001:db8::/32",
		}},
		{"a limit of one direction leaves the other", some, []string{"wireguard from 192.0.2.0/24"}, []string{
			"egress 51871/UDP", "ingress 51871/UDP from 192.0.2.0/24",
		}},
		{"limits of both", some, []string{"dhcp from 192.0.2.1 to 192.0.2.1, 255.255.255.255"}, []string{
			"egress 547/UDP to 192.0.2.1/32", "egress 547/UDP to 255.255.255.255/32",
			"egress 67/UDP to 192.0.2.1/32", "egress 67/UDP to 255.255.255.255/32",
			"ingress 546/UDP from 192.0.2.1/32", "ingress 68/UDP from 192.0.2.1/32",
		}},
		{"ports", some, []string{"ingress 8443/TCP from 2001:db8::/32", "egress 53/udp to 192.0.2.53,192.0.2.54", "ingress 3868/SCTP"}, []string{
			"egress 53/UDP to 192.0.2.53/32", "egress 53/UDP to 192.0.2.54/32", "ingress 3868/SCTP", "ingress 8443/TCP from 2001:db8::/32",
		}},
		{"all of one family", some, []string{"ssh from 0.0.0.0/0"}, []string{"ingress 22/TCP from 0.0.0.0/0"}},
		{"cut at commas", some, []string{"ssh from 192.0.2.0/24", " 2001:db8::/32", "egress 53/UDP"}, []string{
			"egress 53/UDP", "ingress 22/TCP from 192.0.2.0/24", "ingress 22/TCP from 2001:db8::/32",
		}},
		{"the same twice", some, []string{"ingress 22/TCP", "ssh", "ingress 22/TCP"}, []string{"ingress 22/TCP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, opened(t, tt.ports, tt.entries...), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailsafeNamesEntryAndRemedy(t *testing.T) {
	for _, tt := range []struct {
		entries []string
		want    string
	}{
		{[]string{"shh"}, `use wireguard, dhcp, servers, ssh, a port`},
		{[]string{""}, "is unknown"},
		{[]string{"SSH"}, "is unknown"},
		{[]string{"ssh", "none"}, "none stands alone"},
		{[]string{"none from 192.0.2.0/24"}, "none stands alone"},
		{[]string{"ssh 22"}, "is unknown"},
		{[]string{"ssh from"}, "followed by prefixes"},
		{[]string{"ssh from ,"}, "followed by prefixes"},
		{[]string{"dhcp from to 192.0.2.1"}, "followed by prefixes"},
		{[]string{"ssh from office"}, "neither a prefix nor an address"},
		{[]string{"ssh from 192.0.2.1/24"}, "write 192.0.2.0/24"},
		{[]string{"ssh from ::/0"}, "2000::/3"},
		{[]string{"ssh to 192.0.2.0/24"}, "write from instead of to"},
		{[]string{"ssh", "ssh from 192.0.2.0/24"}, "stands twice"},
		{[]string{"ssh", "ssh"}, "stands twice"},
		{[]string{"ingress 22"}, "malformed"},
		{[]string{"ingress 22/ICMP"}, "malformed"},
		{[]string{"ingress 22/TCP to 192.0.2.0/24"}, "from for ingress"},
		{[]string{"egress 53/UDP from 192.0.2.0/24"}, "to for egress"},
		{[]string{"192.0.2.0/24"}, "is unknown"},
		{slices.Repeat([]string{"ingress 22/TCP"}, maxFailsafe+1), "at most 256"},
		{[]string{"ssh from " + manyAddresses(maxFailsafe+1)}, "at most 256"},
	} {
		_, err := ParseFailsafe(tt.entries)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60q: %v, want an error that says %q", tt.entries, err, tt.want)
		}
		if err != nil && len(tt.entries) == 1 && len(tt.entries[0]) < 100 && !strings.Contains(err.Error(), fmt.Sprintf("%q", tt.entries[0])) {
			t.Errorf("error %v does not name the entry", err)
		}
	}
}

func TestFailsafeReportsEveryEntry(t *testing.T) {
	_, err := ParseFailsafe([]string{"shh", "ssh", "dhpc"})
	if err == nil || !strings.Contains(err.Error(), "shh") || !strings.Contains(err.Error(), "dhpc") {
		t.Errorf("error %v, want both entries", err)
	}
}

func manyAddresses(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("10.0.%d.%d", i/256, i%256)
	}
	return strings.Join(all, ",")
}

func TestFailsafeTellsWhatCutsTheMesh(t *testing.T) {
	for _, tt := range []struct {
		entries, omits []string
		peers          []netip.Prefix
	}{
		{DefaultFailsafe(), nil, []netip.Prefix{{}}},
		{nil, []string{"wireguard", "servers"}, nil},
		{[]string{"ssh", "servers to 192.0.2.1"}, []string{"wireguard"}, nil},
		{[]string{"wireguard to 192.0.2.0/24"}, []string{"servers"}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		{[]string{"wireguard from 192.0.2.0/24", "servers"}, nil, []netip.Prefix{{}}},
	} {
		f, err := ParseFailsafe(tt.entries)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.omits, f.Omits()); diff != "" {
			t.Errorf("%q omits (-want +got):\n%s", tt.entries, diff)
		}
		if diff := cmp.Diff(tt.peers, f.PeerRemotes(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%q, peers (-want +got):\n%s", tt.entries, diff)
		}
	}
}

func TestServicesSayWhy(t *testing.T) {
	f, err := ParseFailsafe([]string{"ssh from 192.0.2.0/24", "ingress 8443/TCP"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"ingress 22/TCP from 192.0.2.0/24": "SSH server", "ingress 8443/TCP": "configured",
	} {
		h, err := datapath.ParsePinhole(text)
		if err != nil {
			t.Fatal(err)
		}
		if why := Services(some, f)[h]; !strings.Contains(why, want) {
			t.Errorf("%s is open for %q, want %q", text, why, want)
		}
	}
}

// What one host writes of its pinholes opens the same on another.
func FuzzParseFailsafe(f *testing.F) {
	for _, seed := range []string{
		"wireguard\ndhcp\nservers\nssh", "none", "ssh from 192.0.2.0/24,\n2001:db8::/32", "ingress 8443/TCP from 2001:db8::/32",
		"egress 53/udp to 192.0.2.53", "dhcp from 192.0.2.1 to 192.0.2.1,255.255.255.255", "ssh from ::/0", "from to from",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		failsafe, err := ParseFailsafe(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		words := Words(slices.Collect(maps.Keys(Services(some, failsafe))))
		if len(words) > maxFailsafe {
			return // more than the setting takes
		}
		again, err := ParseFailsafe(words)
		if err != nil {
			t.Fatalf("%q is %q, which is refused: %v", text, words, err)
		}
		if diff := cmp.Diff(words, Words(slices.Collect(maps.Keys(Services(some, again))))); diff != "" {
			t.Errorf("%q, read again (-want +got):\n%s", text, diff)
		}
	})
}
