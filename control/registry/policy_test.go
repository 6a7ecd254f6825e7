package registry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// me changes policies that stand at once.
var me = ApplyOptions{Author: "me"}

func document(name, app string) string {
	return fmt.Sprintf(`apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata:
  name: %s
spec:
  endpointSelector:
    matchLabels:
      app: %s
  ingress:
  - fromEntities: [world]
`, name, app)
}

func (f *fixture) apply(docs ...string) (uint64, string) {
	f.t.Helper()
	current, changes, err := f.ApplyPolicies(f.t.Context(), me, f.parsed(docs...))
	f.must(err)
	var what []string
	for _, c := range changes {
		what = append(what, c.ID+" "+c.Change)
	}
	return current.Revision, strings.Join(what, ", ")
}

func TestPolicies(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	for i, step := range []struct {
		docs     []string
		revision uint64
		what     string
	}{
		{[]string{document("a", "web"), document("b", "web")}, 1, "a created, b created"},
		{[]string{document("a", "web")}, 1, "a unchanged"},
		{[]string{document("a", "db"), document("b", "web")}, 2, "a updated, b unchanged"},
	} {
		if r, what := f.apply(step.docs...); r != step.revision || what != step.what {
			t.Errorf("step %d: revision %d, %s", i, r, what)
		}
	}
	stored, revision, err := f.Policies(t.Context())
	f.must(err)
	if len(stored) != 2 || revision != 2 || stored[0].Revision != 2 || stored[1].Revision != 1 || stored[0].Author != "me" || stored[0].Time.IsZero() {
		t.Errorf("revision %d: %+v", revision, stored)
	}
	if p, err := f.Policy(t.Context(), "a"); err != nil || !strings.Contains(p.Source, "app: db") {
		t.Errorf("a: %+v, %v", p, err)
	}
	if r, change, err := f.DeletePolicy(t.Context(), me, "a"); err != nil || r.Revision != 3 || change.Change != schema.ChangeDeleted {
		t.Errorf("delete: %d, %+v, %v", r.Revision, change, err)
	}
	before := f.content()
	if _, _, err := f.DeletePolicy(t.Context(), me, "a"); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("delete again: %v", err)
	}
	if _, err := f.Policy(t.Context(), "a"); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("get: %v", err)
	}
	f.unchanged(before)
}

func TestBadPoliciesChangeNothing(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"))
	before := f.content()
	for name, files := range map[string][]File{
		"no YAML":       {{"x.yaml", []byte("{")}},
		"one bad":       {{"x.yaml", []byte(document("b", "web"))}, {"y.yaml", []byte("kind: Nothing\n")}},
		"the same name": {{"x.yaml", []byte(document("b", "web"))}, {"y.yaml", []byte(document("b", "db"))}},
		"10 MB":         {{"x.yaml", make([]byte, 10<<20)}},
	} {
		if _, err := ParsePolicies(files); !errors.Is(err, code(control.CodeInvalid)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var many []string
	for i := range maxOps + 1 {
		many = append(many, document(fmt.Sprintf("p%d", i), "web"))
	}
	policies, err := ParsePolicies([]File{{"many.yaml", []byte(strings.Join(many, "---\n"))}})
	f.must(err)
	if _, _, err := f.ApplyPolicies(t.Context(), me, policies); !errors.Is(err, code(control.CodeInvalid)) {
		t.Errorf("too many: %v", err)
	}
	f.unchanged(before)
}

// What an earlier or later build has stored is in nobody's way.
func TestUnreadablePolicy(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"))
	for _, id := range []string{"old", "ns/old"} {
		value, err := schema.EncodePolicy(schema.Policy{Name: id, Document: "kind: Unheard\n"})
		f.must(err)
		_, err = f.store.Put(t.Context(), schema.PolicyKey(id), value, 0)
		f.must(err)
	}
	if _, what := f.apply(document("b", "web"), document("old", "web")); what != "b created, old updated" {
		t.Errorf("apply: %s", what)
	}
	if _, change, err := f.DeletePolicy(t.Context(), me, "ns/old"); err != nil || change.ID != "ns/old" {
		t.Errorf("delete: %+v, %v", change, err)
	}
	if stored, _, err := f.Policies(t.Context()); err != nil || len(stored) != 3 {
		t.Errorf("then %d policies, %v", len(stored), err)
	}
}

func TestConcurrentAppliesCount(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	const n = 8
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		policies, err := ParsePolicies([]File{{"p.yaml", []byte(document(fmt.Sprintf("p%d", i), "web"))}})
		f.must(err)
		wg.Go(func() { _, _, errs[i] = f.ApplyPolicies(t.Context(), me, policies) })
	}
	wg.Wait()
	f.must(errors.Join(errs...))
	stored, revision, err := f.Policies(t.Context())
	if err != nil || len(stored) != n || revision != n {
		t.Errorf("%d policies, revision %d, %v", len(stored), revision, err)
	}
	kv, _, err := f.store.Get(t.Context(), schema.PolicyRevisionKey)
	f.must(err)
	if r, err := schema.DecodePolicyRevision(kv.Key, kv.Value); err != nil || r.Revision != n || r.Author != "me" {
		t.Errorf("%+v, %v", r, err)
	}
}
