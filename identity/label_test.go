package identity_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

func TestHostLabelsAreWrittenAsCiliumReadsThem(t *testing.T) {
	ls := identity.HostLabels(map[string]string{"role": "db", "app": "shop"}, "prod", mesh.Cluster{Name: "vms", ID: 42})
	const want = "k8s:app=shop;k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=prod;" +
		"k8s:io.cilium.k8s.policy.cluster=vms;" +
		"k8s:io.cilium.k8s.policy.serviceaccount=default;k8s:io.kubernetes.pod.namespace=prod;k8s:role=db;"
	if got := ls.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestHostLabelsOfTheProtocolCannotBeGiven(t *testing.T) {
	ls := identity.HostLabels(map[string]string{identity.KeyNamespace: "forged", identity.KeyNamespaceName: "forged", identity.KeyCluster: "forged"}, "prod", mesh.Cluster{Name: "vms"})
	for key, want := range map[string]string{identity.KeyNamespace: "prod", identity.KeyNamespaceName: "prod", identity.KeyCluster: "vms"} {
		if got, _ := ls.Get(identity.SourceK8s, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestNewLabelsKeepsTheLastOfASourceAndKey(t *testing.T) {
	got := identity.NewLabels(identity.Label{Source: "k8s", Key: "b", Value: "1"}, identity.Label{Source: "k8s", Key: "a"},
		identity.Label{Source: "k8s", Key: "b", Value: "2"}, identity.Label{Source: "any", Key: "b", Value: "3"})
	want := identity.Labels{{Source: "k8s", Key: "a"}, {Source: "any", Key: "b", Value: "3"}, {Source: "k8s", Key: "b", Value: "2"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func TestReservedLabels(t *testing.T) {
	for id, want := range map[mesh.Identity]identity.Labels{
		identity.Host:          {{Source: "reserved", Key: "host"}},
		identity.KubeAPIServer: {{Source: "reserved", Key: "kube-apiserver"}, {Source: "reserved", Key: "remote-node"}},
		identity.WorldIPv6:     {{Source: "reserved", Key: "world"}, {Source: "reserved", Key: "world-ipv6"}},
		99:                     nil,
	} {
		if diff := cmp.Diff(want, identity.ReservedLabels(id)); diff != "" {
			t.Errorf("labels of %d (-want +got):\n%s", id, diff)
		}
	}
}

func TestParseLabels(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want identity.Labels
		fail bool
	}{
		{in: "k8s:app=db;", want: identity.Labels{{Source: "k8s", Key: "app", Value: "db"}}},
		{in: "k8s:b=2;k8s:a=1;", want: identity.Labels{{Source: "k8s", Key: "a", Value: "1"}, {Source: "k8s", Key: "b", Value: "2"}}},
		{in: "k8s:a=x=y;", want: identity.Labels{{Source: "k8s", Key: "a", Value: "x=y"}}},
		{in: "reserved:host=;", want: identity.Labels{{Source: "reserved", Key: "host"}}},
		{in: "cidr:2001:db8::/32=;", want: identity.Labels{{Source: "cidr", Key: "2001:db8::/32"}}},
		{in: "", fail: true},
		{in: ";", fail: true},
		{in: "app=db;", fail: true},
		{in: ":app=db;", fail: true},
		{in: "k8s:=db;", fail: true},
		{in: "k8s:a=1;;k8s:b=2;", fail: true},
	} {
		got, err := identity.ParseLabels(tt.in)
		if (err != nil) != tt.fail {
			t.Errorf("ParseLabels(%q): error %v, want failure %v", tt.in, err, tt.fail)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseLabels(%q) (-want +got):\n%s", tt.in, diff)
		}
	}
}

func FuzzParseLabels(f *testing.F) {
	for _, seed := range []string{"k8s:app=db;", "reserved:host=;", "k8s:a=1;k8s:a=2;", "cidr:10.0.0.0/8=;", "k8s:a", ";;", "a:b=c=d;e:f=;"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ls, err := identity.ParseLabels(s)
		if err != nil {
			return
		}
		again, err := identity.ParseLabels(ls.String())
		if err != nil {
			t.Fatalf("%q encodes to %q, which is refused: %v", s, ls, err)
		}
		if diff := cmp.Diff(ls, again); diff != "" {
			t.Errorf("%q changes when written and read again:\n%s", s, diff)
		}
	})
}
