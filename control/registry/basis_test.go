package registry

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

func ids(policies []policy.Policy) []string {
	var out []string
	for _, p := range policies {
		out = append(out, p.ID())
	}
	return out
}

func parsed(t *testing.T, document string) []policy.Policy {
	t.Helper()
	out, err := ParsePolicies([]File{{"p.yaml", []byte(document)}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fixture) put(key, value string) {
	f.t.Helper()
	_, err := f.store.Put(f.t.Context(), key, []byte(value), 0)
	f.must(err)
}

func TestBasis(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	empty, err := f.Basis(t.Context())
	if err != nil || empty.Revision != 0 || len(empty.Policies)+len(empty.Claims) != 0 {
		t.Errorf("before the first revision: %+v, %v", empty, err)
	}
	f.apply(document("a", "web"), document("b", "web"))
	old, err := schema.EncodePolicy(schema.Policy{Name: "old", Document: "kind: Unheard\n"})
	f.must(err)
	f.put(schema.PolicyKey("old"), string(old))
	claim := mesh.Claim{Node: "web-1", Key: wgKey("web-1"), Port: 51871}
	value, err := schema.EncodeClaim(claim)
	f.must(err)
	f.put(schema.ClaimKey("web-1"), string(value))
	f.put(schema.ClaimKey("web-2"), "what a host may write")

	basis, err := f.Basis(t.Context())
	f.must(err)
	if basis.Revision != 1 {
		t.Errorf("revision %d, want 1", basis.Revision)
	}
	for _, diff := range []string{
		cmp.Diff([]string{"a", "b"}, ids(basis.Policies)),
		cmp.Diff([]string{"old"}, basis.Unreadable),
		cmp.Diff(map[string]mesh.Claim{"web-1": claim}, basis.Claims),
	} {
		if diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestBasisChanges(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"), document("b", "web"), document("c", "web"))
	basis, err := f.Basis(t.Context())
	f.must(err)
	store := parsed(t, document("a", "web")+"---\n"+document("b", "db")+"---\n"+document("d", "db"))
	after, changes, err := basis.Change(store, []string{"c"})
	f.must(err)
	if diff := cmp.Diff([]string{"a", "b", "d"}, ids(after)); diff != "" {
		t.Errorf("policies after (-want +got):\n%s", diff)
	}
	var what []string
	for _, c := range changes {
		what = append(what, c.ID+" "+c.Change)
	}
	if diff := cmp.Diff([]string{"a unchanged", "b updated", "d created", "c deleted"}, what); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		remove []string
		code   control.Code
	}{{[]string{"nowhere"}, control.CodeNotFound}, {[]string{"a"}, control.CodeInvalid}, {[]string{"c", "c"}, control.CodeInvalid}} {
		_, _, err := basis.Change(store, tt.remove)
		var answer *control.Error
		if !errors.As(err, &answer) || answer.Code != tt.code {
			t.Errorf("delete %v: %v, want code %s", tt.remove, err, tt.code)
		}
	}
}
