package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// States of the newest revision; those of earlier ones are schema.StateConfirmed
// and so on.
const (
	StatePending = "pending"  // on trial
	StateInForce = "in force" // it stands
)

// expiredAuthor is the author of a rollback that nobody asked for.
const expiredAuthor = "plexusd"

// inForce gives the newest revision its state.
func inForce(r schema.PolicyRevision) schema.PolicyRevision {
	switch {
	case r.Pending():
		r.State = StatePending
	case r.Revision > 0:
		r.State = StateInForce
	}
	return r
}

// PolicyRevision returns the newest revision; its number is 0 before the first.
func (s *Service) PolicyRevision(ctx context.Context) (schema.PolicyRevision, error) {
	now, err := s.shelf(ctx)
	return inForce(now.current), err
}

// History returns the newest revision and those before it that are kept, newest
// first.
func (s *Service) History(ctx context.Context) ([]schema.PolicyRevision, error) {
	now, err := s.shelf(ctx)
	if err != nil || now.current.Revision == 0 {
		return nil, err
	}
	past, err := s.past(ctx)
	if err != nil {
		return nil, err
	}
	// Since the first read, the newest may have become history too.
	past = slices.DeleteFunc(past, func(r schema.PolicyRevision) bool { return r.Revision >= now.current.Revision })
	past = append(past, inForce(now.current))
	slices.Reverse(past)
	return past, nil
}

// past returns the revisions before the newest, oldest first.
func (s *Service) past(ctx context.Context) ([]schema.PolicyRevision, error) {
	kvs, _, err := s.opts.Store.List(ctx, schema.PolicyHistoryPrefix)
	if err != nil {
		return nil, fmt.Errorf("list revisions of the policies: %w", err)
	}
	out := make([]schema.PolicyRevision, 0, len(kvs))
	for _, kv := range kvs {
		r, err := schema.DecodePolicyRevision(kv.Key, kv.Value)
		if err != nil {
			return nil, fmt.Errorf("list revisions of the policies: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// ConfirmPolicies ends the trial of a revision, or with 0 of whichever is on
// trial: it stands. Confirming a revision twice is no error. The answer is
// CodeConflict when there is nothing to confirm or its window has closed.
func (s *Service) ConfirmPolicies(ctx context.Context, author string, revision uint64) (schema.PolicyRevision, error) {
	current, err := s.revise(ctx, func(now shelf) (transaction, error) {
		r := now.current
		if !r.Pending() && revision == r.Revision && r.ConfirmedBy != "" {
			return transaction{}, nil
		}
		if err := s.confirmable(r, revision); err != nil {
			return transaction{}, err
		}
		r.WindowSeconds, r.ConfirmBy, r.ConfirmedBy = 0, time.Time{}, author
		value, err := schema.EncodePolicyRevision(r)
		return transaction{next: r, ops: ops{kvstore.OpPut(schema.PolicyRevisionKey, value, 0)}}, err
	})
	return inForce(current), err
}

// confirmable refuses to confirm what is not on trial, or not any more.
func (s *Service) confirmable(r schema.PolicyRevision, revision uint64) error {
	wanted := revision == 0 || revision == r.Revision
	switch {
	case wanted && r.Pending() && s.now().Before(r.ConfirmBy):
		return nil
	case wanted && r.Pending():
		return control.Errorf(control.CodeConflict, "revision %d was to be confirmed by %s and is taken back: apply the change again", r.Revision, r.ConfirmBy.Format(time.RFC3339))
	case r.Action == schema.ActionRollback && (revision == 0 || revision == r.Of):
		return control.Errorf(control.CodeConflict, "revision %d is not on trial: revision %d of %s has taken it back: apply the change again", r.Of, r.Revision, r.Author)
	case wanted:
		return control.Errorf(control.CodeConflict, "no revision of the policies is on trial: revision %d stands", r.Revision)
	default:
		return control.Errorf(control.CodeConflict, "revision %d is not the newest: the policies are at revision %d", revision, r.Revision)
	}
}

// RollbackOptions say what is taken back.
type RollbackOptions struct {
	Author  string
	Message string // why; optional
	// To is the revision whose documents shall be in force again; 0 for those
	// before the newest revision, be it on trial or not. Neither leads to a
	// revision whose trial nobody confirmed, nor back through a rollback without
	// naming where to: who asks a moment too late must not get what was taken back.
	To uint64
}

// RollbackPolicies restores earlier documents, word for word, and returns the
// revision that does so.
func (s *Service) RollbackPolicies(ctx context.Context, o RollbackOptions) (schema.PolicyRevision, error) {
	if err := (ApplyOptions{Message: o.Message}).check(); err != nil {
		return schema.PolicyRevision{}, err
	}
	current, err := s.revise(ctx, func(now shelf) (transaction, error) {
		if o.To > 0 {
			return s.planReturn(ctx, now, o)
		}
		if now.current.Revision == 0 {
			return transaction{}, control.Errorf(control.CodeConflict, "there is no revision of the policies to take back")
		}
		if r := now.current; r.Action == schema.ActionRollback {
			return transaction{}, control.Errorf(control.CodeConflict, "revision %d was taken back already, by revision %d of %s: to go back further, name a revision of plexus policy history with --to; to have %d after all, apply it again",
				r.Of, r.Revision, r.Author, r.Of)
		}
		if len(now.current.Changes) == 0 {
			return transaction{}, control.Errorf(control.CodeConflict, "revision %d cannot be taken back: there is no record of what was before it", now.current.Revision)
		}
		return s.planUndo(now, schema.PolicyRevision{Author: o.Author, Message: o.Message})
	})
	return inForce(current), err
}

// planUndo takes the newest revision back. That it fits into a transaction was
// settled when it was made.
func (s *Service) planUndo(now shelf, r schema.PolicyRevision) (transaction, error) {
	r.Action, r.Of, r.To, r.Time = schema.ActionRollback, now.current.Revision, now.current.Revision-1, s.now().UTC().Truncate(time.Second)
	return now.revise(r, now.without())
}

// planReturn takes back every revision after o.To.
func (s *Service) planReturn(ctx context.Context, now shelf, o RollbackOptions) (transaction, error) {
	if o.To >= now.current.Revision {
		return transaction{}, control.Errorf(control.CodeInvalid, "go back to revision %d: the policies are at revision %d: choose an earlier one (plexus policy history)", o.To, now.current.Revision)
	}
	past, err := s.past(ctx)
	if err != nil {
		return transaction{}, err
	}
	e, err := now.asOf(o.To, past)
	if err != nil {
		return transaction{}, err
	}
	r := schema.PolicyRevision{
		Author: o.Author, Message: o.Message, Action: schema.ActionRollback, Of: now.current.Revision, To: o.To,
		Time: s.now().UTC().Truncate(time.Second),
	}
	t, err := now.revise(r, e)
	if err == nil && len(t.ops) == 0 {
		err = control.Errorf(control.CodeConflict, "the policies are those of revision %d already", o.To)
	}
	if err == nil {
		err = t.fits("going back at once")
	}
	return t, err
}

// asOf returns the documents that revisions after number have changed, as they
// were then.
func (s shelf) asOf(number uint64, past []schema.PolicyRevision) (edit, error) {
	kept := make(map[uint64]schema.PolicyRevision, len(past))
	for _, r := range past {
		kept[r.Revision] = r
	}
	kept[s.current.Revision] = s.current
	e := make(edit)
	if kept[number].Unconfirmed {
		return nil, control.Errorf(control.CodeConflict, "go back to revision %d: nobody confirmed its trial, so that it is not known to work: apply its documents again, with --confirm-within", number)
	}
	for n := s.current.Revision; n > number; n-- {
		r := kept[n]
		if len(r.Changes) == 0 {
			return nil, control.Errorf(control.CodeNotFound, "go back to revision %d: what was before revision %d is not kept: choose %d or a later one", number, n, n)
		}
		for _, c := range r.Changes {
			e[c.Name] = c.Before
		}
	}
	return e, nil
}

// RollbackExpired takes the revision on trial back if its window has closed at
// now. It returns when the window of one on trial closes; zero if none is on
// trial any more. A write whose outcome is unknown is an error: calling again
// finds out.
func (s *Service) RollbackExpired(ctx context.Context, now time.Time) (closes time.Time, err error) {
	kv, found, err := s.opts.Store.Get(ctx, schema.PolicyRevisionKey)
	if err != nil {
		return closes, fmt.Errorf("read revision of the policies: %w", err)
	}
	if !found {
		_, err := s.shelf(ctx) // there may be one that an earlier plexusd made
		return closes, err
	}
	r, err := schema.DecodePolicyRevision(kv.Key, kv.Value)
	if err != nil || !r.Pending() || now.Before(r.ConfirmBy) {
		return r.ConfirmBy, err
	}
	back, err := s.revise(ctx, func(is shelf) (transaction, error) {
		if is.current.Revision != r.Revision || !is.current.Pending() {
			return transaction{}, nil // somebody else has decided
		}
		return s.planUndo(is, schema.PolicyRevision{Author: expiredAuthor, Expired: true})
	})
	if err == nil && back.Of == r.Revision && back.Expired {
		s.opts.Logger.Warn("policy revision taken back: nobody confirmed it in time", "revision", r.Revision, "author", r.Author, "now", back.Revision)
	}
	return closes, err
}
