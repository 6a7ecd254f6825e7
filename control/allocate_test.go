package control

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

func TestFirstFree(t *testing.T) {
	taken := func(ss ...string) map[netip.Addr]bool {
		m := map[netip.Addr]bool{}
		for _, a := range addrs(ss...) {
			m[a] = true
		}
		return m
	}
	for _, tt := range []struct {
		name, pool, want string
		taken            map[netip.Addr]bool
	}{
		{"the network address is skipped", "10.210.0.0/16", "10.210.0.1", nil},
		{"the lowest gap", "10.210.0.0/16", "10.210.0.2", taken("10.210.0.1", "10.210.0.3")},
		{"across an octet", "10.9.0.0/30", "10.9.0.2", taken("10.9.0.1")},
		{"the broadcast address is skipped", "10.9.0.0/30", "", taken("10.9.0.1", "10.9.0.2")},
		{"IPv6", "fd01:2::/64", "fd01:2::1", nil},
		{"the end of IPv4", "255.255.255.252/30", "", taken("255.255.255.253", "255.255.255.254")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := FirstFree(netip.MustParsePrefix(tt.pool), tt.taken)
			if ok != (tt.want != "") || ok && got != netip.MustParseAddr(tt.want) {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}

func TestValidatePool4(t *testing.T) {
	for _, tt := range []struct{ pool, node, wrong string }{
		{"10.210.0.0/16", "192.0.2.1", ""},
		{"100.64.0.0/10", "2001:db8::1", ""},
		{"10.210.0.1/16", "", "use 10.210.0.0/16"},
		{"fd00::/64", "", "no IPv4 prefix"},
		{"10.0.0.0/4", "", "bits set"},
		{"16.0.0.0/4", "", "use 8 to 28"},
		{"10.0.0.0/30", "", "use 8 to 28"},
		{"127.0.0.0/8", "", "no unicast network"},
		{"192.0.2.0/24", "192.0.2.1", "holds this host's own address 192.0.2.1"},
	} {
		err := ValidatePool4(netip.MustParsePrefix(tt.pool), addrs(keep([]string{tt.node}, func(s string) bool { return s != "" })...))
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: %v, want %q", tt.pool, err, tt.wrong)
		}
	}
	if ValidatePool4(netip.Prefix{}, nil) == nil {
		t.Error("no pool accepted")
	}
}

func TestNewPool6(t *testing.T) {
	a, b := NewPool6(), NewPool6()
	if a == b || a.Bits() != 64 || a != a.Masked() || !netip.MustParsePrefix("fd00::/8").Contains(a.Addr()) {
		t.Errorf("drew %v, then %v", a, b)
	}
	if raw := a.Addr().As16(); raw[6] != 0 || raw[7] != 0 {
		t.Errorf("%v is not the first /64 of its /48", a)
	}
}

func TestFirstNumber(t *testing.T) {
	vms := mesh.Cluster{Name: "vms", ID: 7}
	labels := func(app string) identity.Labels {
		return identity.HostLabels(map[string]string{"app": app}, "default", vms)
	}
	first, last := identity.Range(vms.ID)
	known := map[mesh.Identity]string{first + 256: labels("web").String(), first + 258: labels("db").String()}
	for app, want := range map[string]mesh.Identity{"web": first + 256, "db": first + 258, "new": first + 257} {
		if got, err := FirstNumber(vms, labels(app), known); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", app, got, err, want)
		}
	}
	for id := first; id <= last; id++ {
		known[id] = "taken"
	}
	if _, err := FirstNumber(vms, labels("new"), known); !errors.Is(err, &Error{Code: CodeMeshFull}) {
		t.Errorf("full mesh: %v", err)
	}
}
