package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/policy"
)

// parsed reads documents as an apply of one file each does.
func (f *fixture) parsed(docs ...string) []policy.Policy {
	f.t.Helper()
	var files []File
	for i, doc := range docs {
		files = append(files, File{fmt.Sprintf("%d.yaml", i), []byte(doc)})
	}
	policies, err := ParsePolicies(files)
	f.must(err)
	return policies
}

// try puts documents on trial for a minute, as from the test's clock.
func (f *fixture) try(docs ...string) schema.PolicyRevision {
	f.t.Helper()
	r, _, err := f.ApplyPolicies(f.t.Context(), ApplyOptions{Author: "alice", Message: "try", Window: time.Minute}, f.parsed(docs...))
	f.must(err)
	return r
}

// documents returns what is stored, word for word.
func (f *fixture) documents() map[string]string {
	f.t.Helper()
	now, err := f.shelf(f.t.Context())
	f.must(err)
	out := make(map[string]string)
	for id, record := range now.records {
		out[id] = record.Document
	}
	return out
}

func (f *fixture) stands(want map[string]string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.documents()); diff != "" {
		f.t.Errorf("documents (-want +got):\n%s", diff)
	}
}

func (f *fixture) remove(id string) {
	f.t.Helper()
	_, _, err := f.DeletePolicy(f.t.Context(), me, id)
	f.must(err)
}

// story is the history in short, newest first.
func (f *fixture) story() []string {
	f.t.Helper()
	all, err := f.History(f.t.Context())
	f.must(err)
	var out []string
	for _, r := range all {
		line := fmt.Sprintf("%d %s by %s", r.Revision, r.Action, r.Author)
		if r.Action == schema.ActionRollback {
			line += fmt.Sprintf(" of %d to %d", r.Of, r.To)
		}
		if r.Expired {
			line += ", expired"
		}
		for _, c := range r.Changes {
			line += fmt.Sprintf(", %s %s", c.Name, c.Change)
		}
		out = append(out, line+": "+r.State)
	}
	return out
}

func (f *fixture) tells(want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.story()); diff != "" {
		f.t.Errorf("history (-want +got):\n%s", diff)
	}
}

// refused checks that err is a conflict that names all of that.
func (f *fixture) refused(err error, words ...string) {
	f.t.Helper()
	if !errors.Is(err, code(control.CodeConflict)) {
		f.t.Errorf("%v; want a conflict", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			f.t.Errorf("%q does not say %q", err, w)
		}
	}
}

// While a revision is on trial, nobody changes anything but by ending the trial.
func TestTrialIsConfirmed(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"), document("b", "web"))
	r := f.try(document("a", "db"), document("c", "db"))
	if r.Revision != 2 || r.State != StatePending || r.Window() != time.Minute || time.Until(r.ConfirmBy).Round(time.Minute) != time.Minute {
		t.Errorf("revision on trial = %+v", r)
	}
	want := []schema.PolicyChange{{Name: "a", Change: schema.ChangeUpdated, Before: document("a", "web")}, {Name: "c", Change: schema.ChangeCreated}}
	if diff := cmp.Diff(want, r.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	before := f.content()
	_, _, err := f.ApplyPolicies(t.Context(), me, f.parsed(document("d", "web")))
	f.refused(err, "revision 2", "alice", r.ConfirmBy.Format(time.RFC3339), "plexus policy confirm", "plexus policy rollback")
	_, _, err = f.DeletePolicy(t.Context(), me, "b")
	f.refused(err, "revision 2")
	_, err = f.ConfirmPolicies(t.Context(), "bob", 1)
	f.refused(err, "revision 1 is not the newest")
	f.unchanged(before)

	for range 2 { // confirming again is no error
		got, err := f.ConfirmPolicies(t.Context(), "bob", 2)
		if err != nil || got.Revision != 2 || got.State != StateInForce || got.Pending() || !got.ConfirmBy.IsZero() || got.ConfirmedBy != "bob" || got.Author != "alice" {
			t.Errorf("confirm: %+v, %v", got, err)
		}
	}
	_, err = f.ConfirmPolicies(t.Context(), "bob", 0)
	f.refused(err, "no revision of the policies is on trial")
	f.stands(map[string]string{"a": document("a", "db"), "b": document("b", "web"), "c": document("c", "db")})
	f.apply(document("d", "web"))
	f.tells("3 apply by me, d created: in force", "2 apply by alice, a updated, c created: confirmed", "1 apply by me, a created, b created: replaced")
}

func TestConfirmWhicheverIsOnTrial(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	_, err := f.ConfirmPolicies(t.Context(), "bob", 0)
	f.refused(err, "no revision")
	f.try(document("a", "web"))
	if r, err := f.ConfirmPolicies(t.Context(), "bob", 0); err != nil || r.Revision != 1 || r.Pending() {
		t.Errorf("confirm: %+v, %v", r, err)
	}
}

func TestExpiry(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	if closes, err := f.RollbackExpired(t.Context(), time.Now()); err != nil || !closes.IsZero() {
		t.Errorf("without a revision: %s, %v", closes, err)
	}
	f.apply(document("a", "web"))
	standing := f.content()
	if closes, err := f.RollbackExpired(t.Context(), time.Now().Add(time.Hour)); err != nil || !closes.IsZero() {
		t.Errorf("of one that stands: %s, %v", closes, err)
	}
	f.unchanged(standing)
	before := f.documents()
	r := f.try(document("a", "db"), document("b", "db"))
	trial := f.content()
	if closes, err := f.RollbackExpired(t.Context(), r.ConfirmBy.Add(-time.Nanosecond)); err != nil || !closes.Equal(r.ConfirmBy) {
		t.Errorf("too early: %s, %v", closes, err)
	}
	f.unchanged(trial)

	f.now = func() time.Time { return r.ConfirmBy }
	_, err := f.ConfirmPolicies(t.Context(), "alice", 2)
	f.refused(err, "was to be confirmed by", "taken back")
	_, _, err = f.ApplyPolicies(t.Context(), me, f.parsed(document("c", "web")))
	f.refused(err, "not confirmed in time")
	f.unchanged(trial)
	f.store.fail["commit"] = kvstore.ErrUnavailable
	if _, err := f.RollbackExpired(t.Context(), r.ConfirmBy); !errors.Is(err, kvstore.ErrUnavailable) {
		t.Errorf("while etcd is away: %v", err)
	}
	for range 2 { // the second time there is nothing to do
		if closes, err := f.RollbackExpired(t.Context(), r.ConfirmBy); err != nil || !closes.IsZero() {
			t.Errorf("in time: %s, %v", closes, err)
		}
	}
	f.stands(before)
	f.tells("3 rollback by plexusd of 2 to 1, expired, a updated, b deleted: in force", "2 apply by alice, a updated, b created: rolled back", "1 apply by me, a created: replaced")
	_, err = f.ConfirmPolicies(t.Context(), "alice", 2)
	f.refused(err, "revision 3 of plexusd has taken it back")
}

// Whoever ends a trial first has ended it: the others change nothing.
func TestTrialEndsOnce(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"))
	before := f.documents()
	r := f.try(document("a", "db"))
	after := f.documents()
	other, err := New(f.opts) // another server
	f.must(err)
	var wg sync.WaitGroup
	var confirmed error
	var expired [4]error
	wg.Go(func() { _, confirmed = f.ConfirmPolicies(t.Context(), "bob", 2) })
	for i := range expired {
		wg.Go(func() { _, expired[i] = other.RollbackExpired(t.Context(), r.ConfirmBy) })
	}
	wg.Wait()
	f.must(errors.Join(expired[:]...))
	now, err := f.PolicyRevision(t.Context())
	f.must(err)
	if confirmed == nil {
		f.stands(after)
	} else {
		f.refused(confirmed)
		f.stands(before)
	}
	if now.Pending() || now.Expired == (confirmed == nil) || now.Revision > 3 {
		t.Errorf("then %+v; confirm: %v", now, confirmed)
	}
}

// contended is a store where somebody else is first some times.
type contended struct {
	*planted
	times int
	first func()
}

func (c *contended) Commit(ctx context.Context, conds []kvstore.Cond, ops []kvstore.Op) (bool, error) {
	if c.times > 0 {
		c.times--
		c.first()
	}
	return c.planted.Commit(ctx, conds, ops)
}

func TestContendedExpiryIsTriedAgain(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"))
	before := f.documents()
	r := f.try(document("a", "db"))
	opts := f.opts
	opts.Store = &contended{planted: f.store, times: 3, first: func() {
		kv, _, err := f.store.Get(t.Context(), schema.PolicyRevisionKey)
		f.must(err)
		_, err = f.store.Put(t.Context(), kv.Key, kv.Value, 0)
		f.must(err)
	}}
	other, err := New(opts)
	f.must(err)
	if _, err := other.RollbackExpired(t.Context(), r.ConfirmBy); err != nil {
		t.Errorf("taken back: %v", err)
	}
	f.stands(before)
}

func TestBaseOfAReview(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	for number := range uint64(3) {
		base, wrong := number, number+1
		o := ApplyOptions{Author: "me", Base: &wrong}
		_, _, err := f.ApplyPolicies(t.Context(), o, f.parsed(document("a", "web")))
		f.refused(err, fmt.Sprintf("at revision %d", number), fmt.Sprintf("against %d", wrong))
		o.Base = &base
		_, _, err = f.ApplyPolicies(t.Context(), o, f.parsed(document("a", fmt.Sprint("web", number))))
		f.must(err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.apply(document("a", "web"))
	before := f.content()
	for name, o := range map[string]ApplyOptions{
		"short trial":       {Window: 9 * time.Second},
		"long trial":        {Window: time.Hour + time.Second},
		"negative trial":    {Window: -time.Minute},
		"long message":      {Message: strings.Repeat("x", maxMessage+1)},
		"terminal commands": {Message: "\x1b]0;x\a"},
		"two lines":         {Message: "a\nb"},
		"named twice":       {Delete: []string{"b"}},
	} {
		if _, _, err := f.ApplyPolicies(t.Context(), o, f.parsed(document("b", "web"))); !errors.Is(err, code(control.CodeInvalid)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := f.ApplyPolicies(t.Context(), ApplyOptions{Delete: []string{"a", "none"}}, nil); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("delete what is not there: %v", err)
	}
	if _, err := f.RollbackPolicies(t.Context(), RollbackOptions{Message: "a\nb"}); !errors.Is(err, code(control.CodeInvalid)) {
		t.Errorf("message of a rollback: %v", err)
	}
	for _, id := range []string{schema.PolicyRevisionName, ""} {
		if _, err := f.Policy(t.Context(), id); !errors.Is(err, code(control.CodeNotFound)) {
			t.Errorf("policy %q: %v", id, err)
		}
	}
	f.unchanged(before)
}

// A transaction whose outcome is unknown is no success, and is not made twice.
func TestUnknownOutcome(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	f.store.broken["commit"] = kvstore.ErrUnavailable
	_, _, err := f.ApplyPolicies(t.Context(), me, f.parsed(document("a", "web")))
	if !errors.Is(err, kvstore.ErrUnavailable) || !strings.Contains(err.Error(), "plexus policy history") {
		t.Errorf("apply: %v", err)
	}
	if r, what := f.apply(document("a", "web")); r != 1 || what != "a unchanged" {
		t.Errorf("again: revision %d, %s", r, what)
	}
}
