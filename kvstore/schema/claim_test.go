package schema_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// repeat writes an item n times, with commas between.
func repeat(item string, n int) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }

// TestClaimTellsUnknownFromNone keeps what an older agent does not know apart
// from what a host does not have.
func TestClaimTellsUnknownFromNone(t *testing.T) {
	for value, want := range map[string]mesh.Claim{
		`{"node":"web"}`: {Node: "web"},
		`{"node":"web","namedPorts":null,"listening":null,"pinholes":null}`: {Node: "web"},
		`{"node":"web","namedPorts":[],"listening":[],"pinholes":[]}`: {
			Node: "web", Listening: []mesh.Listener{}, Pinholes: []string{},
		},
	} {
		got, err := schema.DecodeClaim("web", []byte(value))
		if diff := cmp.Diff(want, got, exact); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", value, err, diff)
		}
		roundTrip(t, want, schema.EncodeClaim, func(b []byte) (mesh.Claim, error) { return schema.DecodeClaim("web", b) })
	}
}

func TestClaimWithPorts(t *testing.T) {
	claim := mesh.Claim{
		Node: "web", Key: pubKey, Port: 51871, Version: "1",
		Addresses:  []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("203.0.113.7")},
		Direct:     []netip.Addr{netip.MustParseAddr("192.0.2.7")},
		NamedPorts: []mesh.NamedPort{{Name: "dns", Port: 53, Protocol: "UDP"}, {Name: "pg", Port: 5432, Protocol: "TCP"}},
		Listening:  []mesh.Listener{{Protocol: "TCP", Port: 22}, {Protocol: "UDP", Port: 53}},
		Pinholes:   []string{"egress 53/UDP to 192.0.2.53/32", "ingress 22/TCP"},
	}
	roundTrip(t, claim, schema.EncodeClaim, func(b []byte) (mesh.Claim, error) { return schema.DecodeClaim("web", b) })
}

// TestClaimIsOrdered keeps a host that says the same in another order from
// making a difference.
func TestClaimIsOrdered(t *testing.T) {
	got, err := schema.DecodeClaim("web", []byte(`{"node":"web",
		"namedPorts":[{"name":"pg","port":2,"protocol":"TCP"},{"name":"dns","port":53,"protocol":"UDP"},{"name":"pg","port":2,"protocol":"TCP"}],
		"listening":[{"protocol":"UDP","port":53},{"protocol":"TCP","port":80},{"protocol":"TCP","port":22},{"protocol":"TCP","port":22}],
		"pinholes":["ingress 22/TCP","egress 53/UDP","ingress 22/TCP"]}`))
	want := mesh.Claim{
		Node:       "web",
		NamedPorts: []mesh.NamedPort{{Name: "dns", Port: 53, Protocol: "UDP"}, {Name: "pg", Port: 2, Protocol: "TCP"}},
		Listening:  []mesh.Listener{{Protocol: "TCP", Port: 22}, {Protocol: "TCP", Port: 80}, {Protocol: "UDP", Port: 53}},
		Pinholes:   []string{"egress 53/UDP", "ingress 22/TCP"},
	}
	if diff := cmp.Diff(want, got, exact); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestNodeWithoutItsDirectAddress takes none that is not the node's.
func TestNodeWithoutItsDirectAddress(t *testing.T) {
	raw := `{"Name":"web","Cluster":"vms","ClusterID":42,"IPAddresses":[{"Type":"InternalIP","IP":"192.0.2.7"}],"Plexus":{"MeshIPv4":"","MeshIPv6":"","Direct":["192.0.2.8","192.0.2.7","192.0.2.7"]}}`
	got, err := schema.DecodeNode(vms, "web", []byte(raw))
	want := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	if diff := cmp.Diff(want, got.Direct, exact); err != nil || diff != "" {
		t.Errorf("%v, direct (-want +got):\n%s", err, diff)
	}
}

// TestNodeCarriesNamedPorts reads them back, and takes none that means nothing.
func TestNodeCarriesNamedPorts(t *testing.T) {
	n := mesh.Node{Name: "web", Cluster: vms, Key: pubKey, Port: 51871, NamedPorts: []mesh.NamedPort{{Name: "pg", Port: 5432, Protocol: "TCP"}}}
	roundTrip(t, n, schema.EncodeNode, func(b []byte) (mesh.Node, error) { return schema.DecodeNode(vms, "web", b) })
	raw, err := schema.EncodeNode(n)
	if err != nil {
		t.Fatal(err)
	}
	got, err := schema.DecodeNode(vms, "web", []byte(strings.Replace(string(raw), `"TCP"`, `"XXX"`, 1)))
	if err != nil || len(got.NamedPorts) != 0 {
		t.Errorf("ports %v, %v of an unknown protocol", got.NamedPorts, err)
	}
}

func TestClaimRefuses(t *testing.T) {
	for _, tt := range []struct{ name, field, value string }{
		{"a port without protocol", "namedPorts", `{"node":"web","namedPorts":[{"name":"pg","port":1}]}`},
		{"a port without name", "namedPorts", `{"node":"web","namedPorts":[{"port":1,"protocol":"TCP"}]}`},
		{"too many named ports", "namedPorts", `{"node":"web","namedPorts":[` + repeat(`{"name":"pg","port":1,"protocol":"TCP"}`, 65) + `]}`},
		{"a listener of an unknown protocol", "listening", `{"node":"web","listening":[{"port":1,"protocol":"SCTP"}]}`},
		{"a listener at no port", "listening", `{"node":"web","listening":[{"protocol":"TCP"}]}`},
		{"too many listeners", "listening", `{"node":"web","listening":[` + repeat(`{"port":1,"protocol":"TCP"}`, 257) + `]}`},
		{"a pinhole that commands a terminal", "pinholes", `{"node":"web","pinholes":["ingress\u001b[2J"]}`},
		{"an empty pinhole", "pinholes", `{"node":"web","pinholes":[""]}`},
		{"a long pinhole", "pinholes", `{"node":"web","pinholes":["` + strings.Repeat("x", 97) + `"]}`},
		{"too many pinholes", "pinholes", `{"node":"web","pinholes":[` + repeat(`"ingress 22/TCP"`, 513) + `]}`},
	} {
		_, err := schema.DecodeClaim("web", []byte(tt.value))
		if err == nil || !strings.Contains(err.Error(), "claims/web: "+tt.field) {
			t.Errorf("%s: error %v, want one that names %s", tt.name, err, tt.field)
		}
	}
}

// FuzzDecodeClaim reads what any host may write.
func FuzzDecodeClaim(f *testing.F) {
	f.Add([]byte(`{"node":"web","namedPorts":[{"name":"pg","port":5432,"protocol":"TCP"}],"listening":[{"protocol":"UDP","port":53}],"pinholes":["ingress 22/TCP"]}`))
	f.Add([]byte(`{"node":"web","namedPorts":[],"listening":[],"pinholes":[]}`))
	f.Add([]byte(`{"node":"web","listening":null}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := schema.DecodeClaim("web", value)
		if err != nil {
			return
		}
		raw, err := schema.EncodeClaim(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := schema.DecodeClaim("web", raw)
		if err != nil || !back.Equal(c) {
			t.Errorf("%s is %+v, read again %+v, %v", value, c, back, err)
		}
	})
}
