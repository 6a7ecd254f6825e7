package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// Bounds of a transaction that changes policies, in bytes of values (etcd takes
// 1.5 MiB with keys and all), of the record in it, which the next transaction
// must be able to archive and have room left, and of earlier revisions that are
// kept.
const (
	maxApply   = 1400 << 10
	maxRecord  = maxApply - 256<<10
	maxHistory = 100
)

// shelf is what etcd holds of the policies at one moment. Nobody changes it.
type shelf struct {
	mod     int64                    // of the key of current; 0 before the first revision
	current schema.PolicyRevision    // zero before the first
	records map[string]schema.Policy // by ID; one that cannot be read has its name alone
}

// shelf reads the policies and their revision, at one revision of etcd.
func (s *Service) shelf(ctx context.Context) (shelf, error) {
	kvs, _, err := s.opts.Store.List(ctx, schema.PoliciesPrefix)
	if err != nil {
		return shelf{}, fmt.Errorf("list policies: %w", err)
	}
	out := shelf{records: make(map[string]schema.Policy, len(kvs))}
	for _, kv := range kvs {
		name := strings.TrimPrefix(kv.Key, schema.PoliciesPrefix)
		if name == schema.PolicyRevisionName {
			out.mod = kv.ModRevision
			out.current, err = schema.DecodePolicyRevision(kv.Key, kv.Value)
			if err != nil {
				return shelf{}, err
			}
			continue
		}
		record, err := schema.DecodePolicy(name, kv.Value)
		if err != nil { // it can still be replaced and deleted
			record = schema.Policy{Name: name}
		}
		out.records[name] = record
	}
	if out.mod > 0 {
		return out, nil
	}
	moved, err := s.moveRevision(ctx)
	if err != nil || !moved {
		return out, err
	}
	return s.shelf(ctx)
}

// moveRevision brings the revision of a mesh that an earlier plexusd made to
// where hosts look for it now. It reports whether there was one.
func (s *Service) moveRevision(ctx context.Context) (bool, error) {
	old, found, err := s.opts.Store.Get(ctx, schema.OldPolicyRevisionKey)
	if err != nil || !found {
		return false, err
	}
	if _, err := schema.DecodePolicyRevision(old.Key, old.Value); err != nil {
		return false, err
	}
	_, err = s.opts.Store.Commit(ctx,
		[]kvstore.Cond{kvstore.Absent(schema.PolicyRevisionKey), kvstore.Unchanged(old.Key, old.ModRevision)},
		[]kvstore.Op{kvstore.OpPut(schema.PolicyRevisionKey, old.Value, 0), kvstore.OpDelete(old.Key)})
	return true, err // unless this server moved it, another did
}

// edit is what a revision makes of documents, by ID: their text, or "" to
// remove one.
type edit map[string]string

// without returns the documents that there were before the current revision.
func (s shelf) without() edit {
	e := make(edit, len(s.current.Changes))
	for _, c := range s.current.Changes {
		e[c.Name] = c.Before
	}
	return e
}

// transaction is a revision that is ready to be written. Without ops there is
// nothing to change.
type transaction struct {
	ops   []kvstore.Op
	next  schema.PolicyRevision
	after shelf // once it is written

	documents, before, archived int // bytes of values
}

// revise plans the revision r, whose number and changes it fills in, to make e
// true. The revision before it goes to the history.
func (s shelf) revise(r schema.PolicyRevision, e edit) (transaction, error) {
	r.Revision = s.current.Revision + 1
	t := transaction{after: shelf{records: maps.Clone(s.records)}}
	var w writer
	for _, id := range slices.Sorted(maps.Keys(e)) {
		old, exists := s.records[id]
		if document := e[id]; document != old.Document || exists && document == "" {
			r.Changes = append(r.Changes, schema.PolicyChange{Name: id, Change: changeOf(exists, document), Before: old.Document})
			t.documents += t.store(&w, schema.Policy{Name: id, Document: document, Revision: r.Revision, Author: r.Author, Time: r.Time})
		}
	}
	if len(r.Changes) == 0 {
		return transaction{next: s.current, after: s}, nil
	}
	t.archived = s.archive(&w, r)
	value, err := schema.EncodePolicyRevision(r)
	w.put(schema.PolicyRevisionKey, value, err)
	t.before = len(value)
	t.ops, t.next, t.after.current = w.ops, r, r
	return t, w.err
}

func changeOf(exists bool, document string) string {
	switch {
	case document == "":
		return schema.ChangeDeleted
	case exists:
		return schema.ChangeUpdated
	default:
		return schema.ChangeCreated
	}
}

// store writes or, without a document, removes a policy. It returns how many
// bytes that takes.
func (t *transaction) store(w *writer, p schema.Policy) int {
	if p.Document == "" {
		delete(t.after.records, p.Name)
		w.remove(schema.PolicyKey(p.Name))
		return 0
	}
	t.after.records[p.Name] = p
	value, err := schema.EncodePolicy(p)
	w.put(schema.PolicyKey(p.Name), value, err)
	return len(value)
}

// archive moves the current revision to the history, which next ends, and drops
// the oldest there. It returns how many bytes that takes.
func (s shelf) archive(w *writer, next schema.PolicyRevision) int {
	past := s.current
	if past.Revision == 0 {
		return 0
	}
	switch {
	case next.Action == schema.ActionRollback && next.Of == past.Revision:
		past.State = schema.StateRolledBack
	case past.ConfirmedBy != "":
		past.State = schema.StateConfirmed
	default:
		past.State = schema.StateReplaced
	}
	past.Unconfirmed = past.Pending()
	past.WindowSeconds, past.ConfirmBy = 0, time.Time{}
	value, err := schema.EncodePolicyRevision(past)
	w.put(schema.PolicyHistoryKey(past.Revision), value, err)
	if past.Revision > maxHistory {
		w.remove(schema.PolicyHistoryKey(past.Revision - maxHistory))
	}
	return len(value)
}

// fits refuses what etcd would not take in one transaction.
func (t transaction) fits(what string) error {
	size := t.documents + t.before + t.archived
	if len(t.next.Changes) <= maxOps && size <= maxApply && t.before <= maxRecord {
		return nil
	}
	return control.Errorf(control.CodeInvalid, "%s would write %d policies and %d bytes at once: %d bytes of documents, %d of those that they replace, "+
		"and %d of the revision before; at most %d policies and %d bytes fit, %d of them of replaced documents: change fewer policies at a time",
		what, len(t.next.Changes), size, t.documents, t.before, t.archived, maxOps, maxApply, maxRecord)
}

// fitsBothWays refuses what could not be written, and what then could not be
// taken back.
func (t transaction) fitsBothWays() error {
	if err := t.fits("the change"); err != nil {
		return err
	}
	back, err := t.after.revise(schema.PolicyRevision{Author: t.next.Author, Time: t.next.Time, Action: schema.ActionRollback, Of: t.next.Revision}, t.after.without())
	if err != nil {
		return err
	}
	return back.fits("taking the change back")
}

// revise carries plan out in one transaction, and returns the revision that is
// then current. plan may be asked again.
func (s *Service) revise(ctx context.Context, plan func(shelf) (transaction, error)) (schema.PolicyRevision, error) {
	s.policies.Lock()
	defer s.policies.Unlock()
	var pause kvstore.Backoff
	for range attempts {
		now, err := s.shelf(ctx)
		if err != nil {
			return schema.PolicyRevision{}, err
		}
		t, err := plan(now)
		if err != nil || len(t.ops) == 0 {
			return now.current, err
		}
		ok, err := s.opts.Store.Commit(ctx, []kvstore.Cond{kvstore.Unchanged(schema.PolicyRevisionKey, now.mod)}, t.ops)
		if errors.Is(err, kvstore.ErrUnavailable) {
			return schema.PolicyRevision{}, fmt.Errorf("write revision %d of the policies: etcd did not say whether it took it (plexus policy history shows): %w", t.next.Revision, err)
		}
		if err != nil || ok {
			return t.next, err
		}
		if !pause.Wait(ctx) {
			return schema.PolicyRevision{}, context.Cause(ctx)
		}
	}
	return schema.PolicyRevision{}, errContended
}
