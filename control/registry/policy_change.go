package registry

import (
	"context"
	"time"
	"unicode"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/policy"
)

// Unchanged is what an apply does to a policy that is stored already, word for
// word; else it is schema.ChangeCreated, schema.ChangeUpdated or
// schema.ChangeDeleted.
const Unchanged = "unchanged"

// MinWindow is the shortest trial of a revision; [schema.MaxWindow] is the
// longest.
const MinWindow = 10 * time.Second

// maxMessage bounds the reason that is kept with a revision, in bytes.
const maxMessage = 1024

// Change says what happened to a policy.
type Change struct {
	ID     string
	Policy policy.Policy // zero if it was deleted and could not be read
	Change string
}

// ApplyOptions say how policies are changed.
type ApplyOptions struct {
	Author  string
	Message string        // why; optional
	Window  time.Duration // of its trial, from MinWindow to schema.MaxWindow; 0 for a change that stands at once
	Base    *uint64       // the revision that the change was reviewed against; nil for any
	Delete  []string      // IDs of policies to delete besides
}

func (o ApplyOptions) check() error {
	if o.Window != 0 && (o.Window < MinWindow || o.Window > schema.MaxWindow) {
		return control.Errorf(control.CodeInvalid, "a trial of %s: choose from %s to %s", o.Window, MinWindow, schema.MaxWindow)
	}
	if len(o.Message) > maxMessage {
		return control.Errorf(control.CodeInvalid, "the message has %d bytes: use at most %d", len(o.Message), maxMessage)
	}
	for _, r := range o.Message {
		if !unicode.IsPrint(r) {
			return control.Errorf(control.CodeInvalid, "the message holds %q: write one line of text", r)
		}
	}
	return nil
}

// revision returns the revision that o asks for, as of now.
func (o ApplyOptions) revision(action string, now time.Time) schema.PolicyRevision {
	r := schema.PolicyRevision{Author: o.Author, Message: o.Message, Action: action, Time: now.UTC().Truncate(time.Second)}
	if o.Window > 0 {
		whole := (o.Window + time.Second - 1).Truncate(time.Second)
		r.WindowSeconds = uint32(whole / time.Second)
		r.ConfirmBy = now.UTC().Add(whole)
	}
	return r
}

// ApplyPolicies stores what [ParsePolicies] returned and deletes what o names,
// all or none of it, and returns the revision that is then current. Policies
// that are stored already, word for word, change nothing; if all are, there is
// no new revision. While a revision is on trial, and when o.Base is not the
// current one, the answer is CodeConflict; a policy to delete that does not
// exist is CodeNotFound.
func (s *Service) ApplyPolicies(ctx context.Context, o ApplyOptions, policies []policy.Policy) (current schema.PolicyRevision, changes []Change, err error) {
	if err := o.check(); err != nil {
		return current, nil, err
	}
	current, err = s.revise(ctx, func(now shelf) (t transaction, err error) {
		t, changes, err = s.planChange(now, o, policies)
		return t, err
	})
	return inForce(current), changes, err
}

// DeletePolicy removes a stored policy. Its absence is CodeNotFound.
func (s *Service) DeletePolicy(ctx context.Context, o ApplyOptions, id string) (current schema.PolicyRevision, change Change, err error) {
	o.Delete = []string{id}
	current, changes, err := s.ApplyPolicies(ctx, o, nil)
	if err != nil {
		return current, Change{}, err
	}
	return current, changes[0], nil
}

func (s *Service) planChange(now shelf, o ApplyOptions, policies []policy.Policy) (t transaction, changes []Change, err error) {
	if err := s.changeable(now, o.Base); err != nil {
		return t, nil, err
	}
	wanted, changes, err := now.compare(policies, o.Delete)
	if err != nil {
		return t, nil, err
	}
	action := schema.ActionApply
	if len(policies) == 0 {
		action = schema.ActionDelete
	}
	t, err = now.revise(o.revision(action, s.now()), wanted)
	if err == nil && len(t.ops) > 0 {
		err = t.fitsBothWays()
	}
	if err == nil {
		err = t.after.missesGroup(changes)
	}
	return t, changes, err
}

// changeable refuses a change while a revision is on trial, and one that was
// reviewed against other policies than there are.
func (s *Service) changeable(now shelf, base *uint64) error {
	r := now.current
	switch {
	case r.Pending() && !s.now().Before(r.ConfirmBy):
		return control.Errorf(control.CodeConflict, "revision %d of %s was not confirmed in time and is being taken back: try again in a moment", r.Revision, r.Author)
	case r.Pending():
		return control.Errorf(control.CodeConflict, "revision %d of %s is on trial until %s: confirm it (plexus policy confirm) or take it back (plexus policy rollback) first",
			r.Revision, r.Author, r.ConfirmBy.Format(time.RFC3339))
	case base != nil && *base != r.Revision:
		return control.Errorf(control.CodeConflict, "the policies are at revision %d, and this change was reviewed against %d: review it again", r.Revision, *base)
	}
	return nil
}

// compare says what storing and deleting those policies changes.
func (s shelf) compare(store []policy.Policy, remove []string) (edit, []Change, error) {
	e := make(edit, len(store)+len(remove))
	var changes []Change
	for _, p := range store {
		old, exists := s.records[p.ID()]
		change := changeOf(exists, p.Source)
		if exists && old.Document == p.Source {
			change = Unchanged
		}
		e[p.ID()] = p.Source
		changes = append(changes, Change{p.ID(), p, change})
	}
	for _, id := range remove {
		old, exists := s.records[id]
		if _, both := e[id]; both {
			return nil, nil, control.Errorf(control.CodeInvalid, "policy %s is named twice: apply it or delete it, once", id)
		}
		if !exists {
			return nil, nil, noPolicy(id)
		}
		p, err := parseDocument(id, old.Document)
		if err != nil {
			p = policy.Policy{} // what cannot be read can be deleted
		}
		e[id] = ""
		changes = append(changes, Change{id, p, schema.ChangeDeleted})
	}
	return e, changes, nil
}

// missesGroup refuses to delete a CIDR group that some policy of s names.
func (s shelf) missesGroup(changes []Change) error {
	gone := make(map[string]bool)
	for _, c := range changes {
		if c.Change == schema.ChangeDeleted && c.Policy.Kind == policy.CIDRGroup {
			gone[c.Policy.Name] = true
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for id, record := range s.records {
		p, err := parseDocument(id, record.Document)
		if err != nil {
			continue // nobody can tell what it refers to
		}
		if name, found := refersTo(p, gone); found {
			return control.Errorf(control.CodeConflict, "CIDR group %s is used by policy %s: change or delete that first", name, id)
		}
	}
	return nil
}

// refersTo returns which of the groups p names, if it does.
func refersTo(p policy.Policy, groups map[string]bool) (name string, found bool) {
	for _, r := range p.Rules {
		for _, c := range r.Clauses {
			for _, g := range c.Peers.Groups {
				if groups[g.Name] {
					return g.Name, true
				}
			}
		}
	}
	return "", false
}
