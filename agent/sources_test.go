package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/mirror"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/state"
)

const pairs = 90 // policies that change together

func documentOf(id, app string) string {
	return fmt.Sprintf("apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: %s}\n"+
		"spec:\n  endpointSelector: {matchLabels: {app: %s}}\n  ingress: [{fromEntities: [world]}]\n", id, app)
}

func encoded(t *testing.T, value []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// swap is a transaction after which set n alone is in force: policies named by
// its parity, all of which say n.
func swap(t *testing.T, n uint64) []kvstore.Op {
	t.Helper()
	var ops []kvstore.Op
	for i := range pairs / 2 {
		name := fmt.Sprintf("p%d-%d", n%2, i)
		value, err := schema.EncodePolicy(schema.Policy{Name: name, Document: documentOf(name, fmt.Sprintf("set-%d", n)), Revision: n})
		ops = append(ops, kvstore.OpPut(schema.PolicyKey(name), encoded(t, value, err), 0),
			kvstore.OpDelete(schema.PolicyKey(fmt.Sprintf("p%d-%d", 1-n%2, i))))
	}
	value, err := schema.EncodePolicyRevision(schema.PolicyRevision{Revision: n})
	return append(ops, kvstore.OpPut(schema.PolicyRevisionKey, encoded(t, value, err), 0))
}

func writeSwap(t *testing.T, c *kvstore.Client, n uint64) {
	t.Helper()
	if ok, err := c.Commit(t.Context(), nil, swap(t, n)); err != nil || !ok {
		t.Fatal(ok, err)
	}
}

// mixed says what of s is not wholly of its revision; "" if nothing.
func mixed(s state.Snapshot) string {
	n := s.Revision.Number
	if n > 0 && len(s.Policies) != pairs/2 {
		return fmt.Sprintf("revision %d with %d policies", n, len(s.Policies))
	}
	for id, p := range s.Policies {
		if !strings.HasPrefix(id, fmt.Sprintf("p%d-", n%2)) || !strings.Contains(p.Source, fmt.Sprintf("app: set-%d}", n)) {
			return fmt.Sprintf("revision %d with %s: %s", n, id, p.Source)
		}
	}
	return ""
}

// follow pushes the policies of l into the store that it returns.
func follow(t *testing.T, l mirror.Lister) (*state.Store, *refusals) {
	t.Helper()
	store, refused := state.New("policies"), &refusals{}
	m, err := (feed{client: l, store: store, refused: refused, logger: kvtest.Logger(t)}).mirror(policies())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("mirror: %v", err)
		}
	})
	return store, refused
}

// stare reads store all the time, until the returned function is called, which
// says what was seen that should not have been.
func stare(store *state.Store) (stop func() string) {
	done := make(chan struct{})
	var reader sync.WaitGroup
	var bad string
	reader.Go(func() {
		for bad == "" {
			select {
			case <-done:
				return
			default:
				bad = mixed(store.Snapshot())
			}
		}
	})
	return func() string {
		close(done)
		reader.Wait()
		return bad
	}
}

func await(t *testing.T, store *state.Store, what string, ok func(state.Snapshot) bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(store.Snapshot()); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond) // polling with a deadline
	}
}

// What a first list says takes the place of what an earlier run knew in one step:
// planning is woken by the list, and must not see policies of both.
func TestTheFirstListReplacesWhatIsRestoredInOneStep(t *testing.T) {
	store := state.New("policies")
	feed := feed{store: store, refused: &refusals{}, logger: kvtest.Logger(t)}
	m := &member{store: store, unrestored: &refusals{}}
	values := func(n uint64) map[string][]byte {
		name := fmt.Sprintf("p%d", n)
		document, err := schema.EncodePolicy(schema.Policy{Name: name, Document: documentOf(name, "web"), Revision: n})
		revision, rerr := schema.EncodePolicyRevision(schema.PolicyRevision{Revision: n})
		return map[string][]byte{name: encoded(t, document, err), schema.PolicyRevisionName: encoded(t, revision, rerr)}
	}
	if !m.restore(policies(), values(1)) {
		t.Fatal("not restored")
	}
	pushes := feed.options(policies())
	for name, value := range values(2) {
		pushes.OnPut(name, value)
	}
	if s := store.Snapshot(); s.Revision.Number != 1 || len(s.Policies) != 1 {
		t.Errorf("during the list: revision %d with %d policies", s.Revision.Number, len(s.Policies))
	}
	pushes.OnRevision(10)
	if s := store.Snapshot(); s.Revision.Number != 2 || len(s.Policies) != 1 || !s.Synced() || s.Restored() {
		t.Errorf("after the list: revision %d with %d policies, sources %+v", s.Revision.Number, len(s.Policies), s.Sources)
	}
}

// However fast revisions follow each other, and also when etcd goes away between
// them, the state holds one of them and never parts of two.
func TestStateHoldsWholeRevisions(t *testing.T) {
	etcd := kvtest.Start(t)
	writer := etcd.Client(t)
	writeSwap(t, writer, 1)
	store, _ := follow(t, etcd.Client(t))
	stop := stare(store)
	for n := uint64(2); n <= 25; n++ {
		writeSwap(t, writer, n)
	}
	await(t, store, "revision 25", func(s state.Snapshot) bool { return s.Revision.Number == 25 })

	etcd.Restart(t)
	for n := uint64(26); n <= 30; n++ {
		writeSwap(t, writer, n)
	}
	await(t, store, "revision 30", func(s state.Snapshot) bool { return s.Revision.Number == 30 })
	if bad := stop(); bad != "" {
		t.Errorf("a mixture was seen: %s", bad)
	}
	if s := store.Snapshot(); !s.Synced() {
		t.Error("the source has not synced")
	}
}

func putRevision(t *testing.T, s *kvtest.Store, r schema.PolicyRevision) {
	t.Helper()
	value, err := schema.EncodePolicyRevision(r)
	if err := s.PutAll(t.Context(), map[string][]byte{schema.PolicyRevisionKey: encoded(t, value, err)}); err != nil {
		t.Fatal(err)
	}
}

// While a revision is on trial, the state holds what takes it back; once it
// stands it does not. A document that cannot be read is missing there, is
// reported, and stops nothing else.
func TestStateHoldsWhatTakesTheRevisionBack(t *testing.T) {
	kv := kvtest.NewStore()
	store, refused := follow(t, kv)
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	trial := schema.PolicyRevision{
		Revision: 7, Author: "alice", Time: at, WindowSeconds: 60, ConfirmBy: at.Add(time.Minute),
		Changes: []schema.PolicyChange{
			{Name: "new", Change: schema.ChangeCreated},
			{Name: "old", Change: schema.ChangeUpdated, Before: documentOf("old", "web")},
			{Name: "odd", Change: schema.ChangeUpdated, Before: "kind: Unheard\n"},
			{Name: "other", Change: schema.ChangeUpdated, Before: documentOf("not-other", "web")},
		},
	}
	putRevision(t, kv, trial)
	await(t, store, "revision 7", func(s state.Snapshot) bool { return s.Revision.Number == 7 })
	r := store.Snapshot().Revision
	if !r.Pending() || r.Window != time.Minute || r.Author != "alice" || !r.Time.Equal(at) {
		t.Errorf("revision = %+v", r)
	}
	created, isNew := r.Undo["new"]
	old := r.Undo["old"]
	if !isNew || created != nil || old == nil || !strings.Contains(old.Source, "app: web") || len(r.Undo) != 2 {
		t.Errorf("undo = %+v", r.Undo)
	}
	if err := errors.Join(refused.List()...); err == nil || !strings.Contains(err.Error(), "odd") || !strings.Contains(err.Error(), "other") {
		t.Errorf("refused = %v, want both documents that cannot be read", err)
	}
	if names := refused.names("policies"); len(names) != 0 {
		t.Errorf("policies refused: %v, want none: their documents are not what could not be read", names)
	}

	trial.WindowSeconds, trial.ConfirmBy, trial.ConfirmedBy = 0, time.Time{}, "bob"
	putRevision(t, kv, trial)
	await(t, store, "the end of the trial", func(s state.Snapshot) bool { return !s.Revision.Pending() })
	if r := store.Snapshot().Revision; r.Number != 7 || r.Undo != nil || len(refused.List()) != 0 {
		t.Errorf("revision that stands = %+v, refused %v", r, refused.List())
	}
}

// A change of which some policy cannot be read waits whole, for the revision with
// which all can be.
func TestStateTakesPoliciesWholeOrNotAtAll(t *testing.T) {
	kv := kvtest.NewStore()
	store, refused := follow(t, kv)
	write := func(documents map[string]string) {
		t.Helper()
		values := make(map[string][]byte)
		for name, document := range documents {
			value, err := schema.EncodePolicy(schema.Policy{Name: name, Document: document})
			values[schema.PolicyKey(name)] = encoded(t, value, err)
		}
		if err := kv.PutAll(t.Context(), values); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]string{"a": documentOf("a", "web"), "b": documentOf("b", "web")})
	await(t, store, "the policies", func(s state.Snapshot) bool { return len(s.Policies) == 2 })
	write(map[string]string{"a": "kind: Unheard\n", "b": documentOf("b", "db"), "c": documentOf("c", "db")})
	await(t, store, "its refusal", func(state.Snapshot) bool { return len(refused.names("policies")) == 1 })
	write(map[string]string{"d": documentOf("d", "db")}) // of no help
	s := store.Snapshot()
	if a, b := s.Policies["a"], s.Policies["b"]; len(s.Policies) != 2 || a.Kind != policy.Clusterwide || !strings.Contains(b.Source, "app: web") {
		t.Errorf("policies = %+v, want those before the change that cannot be understood", s.Policies)
	}
	if err := kv.Delete(t.Context(), schema.PolicyKey("a")); err != nil {
		t.Fatal(err)
	}
	await(t, store, "all of what has waited", func(s state.Snapshot) bool {
		return len(s.Policies) == 3 && strings.Contains(s.Policies["b"].Source, "app: db") && len(refused.List()) == 0
	})
}
