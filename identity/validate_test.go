package identity_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/identity"
)

func TestValidateLabel(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tt := range []struct {
		key, value string
		ok         bool
	}{
		{"app", "db", true},
		{"app", "", true},
		{"example.com/tier", "Gold_1.2-x", true},
		{long[:63], long[:63], true},
		{"", "x", false},
		{"/app", "x", false},
		{"a/b/c", "x", false},
		{"Example.com/app", "x", false},
		{strings.Repeat("a.", 127) + "a/app", "x", false},
		{"example.com/", "x", false},
		{long, "x", false},
		{"app", long, false},
		{"app", "-db", false},
		{"app", "d b", false},
		{"app", "a;b", false},
		{"app", "a=b", false},
		{"k8s:app", "db", false},
		{"app\n", "db", false},
		{"app", "db\n", false},
		{"io.cilium.k8s.policy.cluster", "forged", false},
		{"io.cilium.x/app", "forged", false},
		{"io.kubernetes.pod.namespace", "forged", false},
	} {
		if err := identity.ValidateLabel(tt.key, tt.value); (err == nil) != tt.ok {
			t.Errorf("ValidateLabel(%q, %q) = %v, want ok %v", tt.key, tt.value, err, tt.ok)
		}
	}
}

func TestParseLabelArgs(t *testing.T) {
	got, err := identity.ParseLabelArgs([]string{"app=db", "empty=", "app=db"})
	if diff := cmp.Diff(map[string]string{"app": "db", "empty": ""}, got); diff != "" || err != nil {
		t.Errorf("error %v, labels (-want +got):\n%s", err, diff)
	}
	for _, args := range [][]string{{"app"}, {"=db"}, {"app=db", "app=web"}, {"app=a=b"}} {
		if got, err := identity.ParseLabelArgs(args); err == nil {
			t.Errorf("ParseLabelArgs(%q) = %v, want an error", args, got)
		}
	}
}

func TestValidateNamespace(t *testing.T) {
	for ns, ok := range map[string]bool{
		"default": true, "a-1": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "A": false, "a.b": false, "a/b": false, "a\n": false, strings.Repeat("a", 64): false,
	} {
		if err := identity.ValidateNamespace(ns); (err == nil) != ok {
			t.Errorf("ValidateNamespace(%q) = %v, want ok %v", ns, err, ok)
		}
	}
}
