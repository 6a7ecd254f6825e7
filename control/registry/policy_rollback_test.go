package registry

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// A rollback puts each document back as it was, word for word, whatever it was.
// Asked for once more, as by somebody who did not see that the trial had ended, it
// does not bring back what was taken back.
func TestRollback(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	_, err := f.RollbackPolicies(t.Context(), RollbackOptions{})
	f.refused(err, "no revision")
	commented := "# why: see the ticket <T&1>\n" + document("a", "web") + "  # kept\n"
	f.apply(commented, document("gone", "web"))
	first := f.documents()
	f.must(f.etcdPut(schema.PolicyKey("odd"), schema.Policy{Name: "odd", Document: "kind: Unheard\n"}))
	first["odd"] = "kind: Unheard\n"

	_, _, err = f.ApplyPolicies(t.Context(), ApplyOptions{Author: "alice", Window: time.Minute, Delete: []string{"gone"}},
		f.parsed(document("a", "db"), document("new", "db"), document("odd", "db")))
	f.must(err)
	r, err := f.RollbackPolicies(t.Context(), RollbackOptions{Author: "bob", Message: "it hurts"})
	if err != nil || r.Revision != 3 || r.State != StateInForce || r.Message != "it hurts" || r.Pending() {
		t.Errorf("rollback: %+v, %v", r, err)
	}
	f.stands(first)
	_, err = f.ConfirmPolicies(t.Context(), "alice", 2)
	f.refused(err, "revision 3 of bob has taken it back")
	_, err = f.ConfirmPolicies(t.Context(), "alice", 0)
	f.refused(err, "revision 3 of bob has taken it back")

	_, err = f.RollbackPolicies(t.Context(), RollbackOptions{Author: "bob"})
	f.refused(err, "revision 2 was taken back already, by revision 3 of bob")
	_, err = f.RollbackPolicies(t.Context(), RollbackOptions{Author: "bob", To: 2})
	f.refused(err, "nobody confirmed its trial")
	f.stands(first)
	f.tells("3 rollback by bob of 2 to 1, a updated, gone created, new deleted, odd updated: in force",
		"2 apply by alice, a updated, gone deleted, new created, odd updated: rolled back",
		"1 apply by me, a created, gone created: replaced")
}

func (f *fixture) etcdPut(key string, p schema.Policy) error {
	value, err := schema.EncodePolicy(p)
	if err == nil {
		_, err = f.store.Put(f.t.Context(), key, value, 0)
	}
	return err
}

func TestRollbackTo(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	states := []map[string]string{{}}
	keep := func() { states = append(states, f.documents()) }
	f.apply(document("a", "one"), document("b", "one"))
	keep()
	f.apply(document("a", "two"))
	keep()
	f.remove("b")
	keep()
	f.apply(document("b", "four"), document("c", "four"))
	keep()
	f.apply(document("a", "five"))
	keep()
	for step, to := range []uint64{1, 4, 3, 2} { // revisions 6, 7, …
		r, err := f.RollbackPolicies(t.Context(), RollbackOptions{Author: "bob", To: to})
		if err != nil || r.Revision != uint64(6+step) || r.To != to || r.Of != uint64(5+step) {
			t.Errorf("to %d: %+v, %v", to, r, err)
		}
		f.stands(states[to])
		keep()
	}
	for _, to := range []uint64{6, 7, 5} { // rollbacks and what they took back can be gone back to as well
		if _, err := f.RollbackPolicies(t.Context(), RollbackOptions{To: to}); err != nil {
			t.Errorf("to %d: %v", to, err)
		}
		f.stands(states[to])
	}
	before := f.content()
	for _, to := range []uint64{12, 13, 99} {
		if _, err := f.RollbackPolicies(t.Context(), RollbackOptions{To: to}); !errors.Is(err, code(control.CodeInvalid)) {
			t.Errorf("to %d: %v", to, err)
		}
	}
	_, err := f.RollbackPolicies(t.Context(), RollbackOptions{To: 5})
	if !errors.Is(err, code(control.CodeConflict)) {
		t.Errorf("to what is in force: %v", err)
	}
	f.unchanged(before)
}

// The history keeps the newest hundred, and what to go back to with them.
func TestHistoryIsBounded(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	const n = maxHistory + 5
	for i := 1; i <= n; i++ {
		f.apply(document("a", fmt.Sprint("v", i)))
	}
	all, err := f.History(t.Context())
	f.must(err)
	if len(all) != maxHistory+1 || all[0].Revision != n || all[maxHistory].Revision != n-maxHistory {
		t.Fatalf("%d revisions, from %d to %d", len(all), all[0].Revision, all[len(all)-1].Revision)
	}
	const oldest = n - maxHistory - 1 // what was before the oldest that is kept
	if _, err := f.RollbackPolicies(t.Context(), RollbackOptions{To: oldest - 1}); !errors.Is(err, code(control.CodeNotFound)) || !strings.Contains(err.Error(), fmt.Sprint("choose ", oldest)) {
		t.Errorf("further back than is kept: %v", err)
	}
	_, err = f.RollbackPolicies(t.Context(), RollbackOptions{To: oldest})
	f.must(err)
	f.stands(map[string]string{"a": document("a", fmt.Sprint("v", oldest))})
}

// padded is a document of about that many bytes.
func padded(name, app string, size int) string {
	return "# " + strings.Repeat(app[:1], size) + "\n" + document(name, app)
}

// What etcd takes in one transaction bounds a change, and taking it back too:
// what is accepted can be taken back for certain.
func TestSizeOfAChange(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	ctx := t.Context()
	const half = 500 << 10
	f.apply(padded("a", "web", half))
	f.apply(document("small", "web")) // the record of it is small
	before := f.content()
	_, _, err := f.ApplyPolicies(ctx, me, f.parsed(padded("a", "xyz", 2*half)))
	if !errors.Is(err, code(control.CodeInvalid)) || !strings.Contains(err.Error(), fmt.Sprint(maxApply)) || !strings.Contains(err.Error(), "fewer policies") {
		t.Errorf("too large: %v", err)
	}
	// It fits itself, but its opposite has to write a document, keep the other and
	// archive the first again.
	_, _, err = f.ApplyPolicies(ctx, me, f.parsed(padded("a", "xyz", half), padded("c", "xyz", half/2)))
	if !errors.Is(err, code(control.CodeInvalid)) || !strings.Contains(err.Error(), "taking the change back") {
		t.Errorf("could not be taken back: %v", err)
	}
	f.unchanged(before)

	stands := f.documents()
	f.try(padded("a", "xyz", half*3/4))
	f.now = func() time.Time { return time.Now().Add(2 * time.Minute) }
	if _, err := f.RollbackExpired(ctx, f.now()); err != nil {
		t.Errorf("taken back: %v", err)
	}
	f.stands(stands)

	var many []string
	want := maps.Clone(stands)
	for i := range maxOps {
		name := fmt.Sprintf("p%03d", i)
		many = append(many, document(name, "web"))
	}
	f.apply(many...) // as many as may be, with the archive of a large one
	_, err = f.RollbackPolicies(ctx, RollbackOptions{})
	f.must(err)
	f.stands(want)
}

// However much a revision replaced, the next one has room beside its record.
func TestLargeChangesAreNoDeadEnd(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	ctx := t.Context()
	const third = 550 << 10
	_, _, err := f.ApplyPolicies(ctx, me, f.parsed(padded("a", "web", third*6/5), padded("b", "web", third*6/5)))
	if !errors.Is(err, code(control.CodeInvalid)) || !strings.Contains(err.Error(), fmt.Sprint(maxRecord)) {
		t.Errorf("would leave no room: %v", err)
	}
	f.apply(padded("a", "web", third), padded("b", "web", third))
	large := f.documents()
	_, err = f.RollbackPolicies(ctx, RollbackOptions{}) // keeps both in its record
	f.must(err)
	if _, err := f.RollbackPolicies(ctx, RollbackOptions{To: 1}); !errors.Is(err, code(control.CodeInvalid)) || !strings.Contains(err.Error(), "going back at once") {
		t.Errorf("writes and archives them at once: %v", err)
	}
	f.stands(map[string]string{})
	f.apply(padded("c", "web", 100<<10)) // archives both
	f.apply(large["a"])
}

func TestRevisionOfAnEarlierBuild(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	ctx := t.Context()
	f.must(f.etcdPut(schema.PolicyKey("a"), schema.Policy{Name: "a", Document: document("a", "web"), Revision: 41}))
	_, err := f.store.Put(ctx, schema.OldPolicyRevisionKey, []byte(`{"revision":41,"author":"root","time":"2026-07-01T12:00:00Z"}`), 0)
	f.must(err)

	if closes, err := f.RollbackExpired(ctx, time.Now()); err != nil || !closes.IsZero() { // as the leader asks first of all
		t.Errorf("expire: %s, %v", closes, err)
	}
	content := f.content()
	if _, old := content[schema.OldPolicyRevisionKey]; old || content[schema.PolicyRevisionKey] == "" {
		t.Errorf("not moved: %v", content)
	}
	if policies, revision, err := f.Policies(ctx); err != nil || revision != 41 || len(policies) != 1 {
		t.Errorf("%d policies, revision %d, %v", len(policies), revision, err)
	}
	_, err = f.RollbackPolicies(ctx, RollbackOptions{})
	f.refused(err, "no record of what was before")
	if r, _ := f.apply(document("b", "web")); r != 42 {
		t.Errorf("the next revision is %d", r)
	}
	if _, err := f.RollbackPolicies(ctx, RollbackOptions{To: 40}); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("to before its record: %v", err)
	}
	if r, err := f.RollbackPolicies(ctx, RollbackOptions{To: 41}); err != nil || r.Revision != 43 {
		t.Errorf("to its record: %+v, %v", r, err)
	}
	f.stands(map[string]string{"a": document("a", "web")})
}
