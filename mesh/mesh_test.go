package mesh

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidateNodeName(t *testing.T) {
	for _, good := range []string{"a", "web-1", "web-1.rack.example", "0", strings.Repeat("x", 63)} {
		if err := ValidateNodeName(good); err != nil {
			t.Errorf("ValidateNodeName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", "a/b", "Web", "-a", "a-", "a..b", ".a", "a_b", "a b", strings.Repeat("x", 64), "ä"} {
		if err := ValidateNodeName(bad); err == nil || !strings.Contains(err.Error(), "--node-name") {
			t.Errorf("ValidateNodeName(%q) = %v, want an error with the remedy", bad, err)
		}
	}
}

func TestValidateClusterName(t *testing.T) {
	for _, good := range []string{"east", "e", "k8s-a", strings.Repeat("x", 32)} {
		if err := ValidateClusterName(good); err != nil {
			t.Errorf("ValidateClusterName(%q) = %v", good, err)
		}
	}
	for _, bad := range []string{"", "default", "East", "a.b", "a-", "-a", "a/b", strings.Repeat("x", 33)} {
		if ValidateClusterName(bad) == nil {
			t.Errorf("ValidateClusterName(%q) accepts what Cilium refuses", bad)
		}
	}
}

func TestValidateClusterID(t *testing.T) {
	for _, tt := range []struct {
		id    uint32
		force bool
		ok    bool
	}{{1, false, true}, {127, false, true}, {128, false, false}, {128, true, true}, {255, true, true}, {256, true, false}, {0, true, false}} {
		if err := ValidateClusterID(tt.id, tt.force); (err == nil) != tt.ok {
			t.Errorf("ValidateClusterID(%d, %v) = %v", tt.id, tt.force, err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(Key{1, 2, 3}.String())
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err != nil || k.IsZero() {
			return
		}
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Errorf("key %v does not survive its text: %v, %v", k, again, err)
		}
	})
}

func TestMeshPrefixes(t *testing.T) {
	n := Node{Mesh4: netip.MustParseAddr("10.210.0.1"), Mesh6: netip.MustParseAddr("fd00::1")}
	got := n.MeshPrefixes()
	if len(got) != 2 || got[0].String() != "10.210.0.1/32" || got[1].String() != "fd00::1/128" {
		t.Errorf("MeshPrefixes() = %v", got)
	}
	if got := (Node{}).MeshPrefixes(); got != nil {
		t.Errorf("a Cilium node has mesh prefixes %v", got)
	}
}

func TestEqualSeesEveryField(t *testing.T) {
	n := Node{Name: "a", Cluster: Cluster{"east", 1}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Key: Key{1}, Port: 1, Version: "1"}
	for name, change := range map[string]func(*Node){
		"name": func(n *Node) { n.Name = "b" }, "cluster": func(n *Node) { n.Cluster.ID = 2 },
		"addresses": func(n *Node) { n.Addresses = nil }, "mesh4": func(n *Node) { n.Mesh4 = netip.MustParseAddr("10.0.0.1") },
		"mesh6": func(n *Node) { n.Mesh6 = netip.MustParseAddr("fd00::1") }, "key": func(n *Node) { n.Key = Key{2} },
		"port": func(n *Node) { n.Port = 2 }, "server": func(n *Node) { n.Server = true }, "version": func(n *Node) { n.Version = "2" },
	} {
		o := n
		if change(&o); n.Equal(o) {
			t.Errorf("Equal does not see the %s", name)
		}
	}
	if !n.Equal(n) {
		t.Error("a node differs from itself")
	}
}
