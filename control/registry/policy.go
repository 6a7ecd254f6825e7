package registry

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/policy"
)

// maxApply bounds, in bytes, what one transaction can carry (etcd takes 1.5 MiB).
const maxApply = 1400 << 10

// File is one file of policy documents.
type File struct {
	Name string // for messages
	Data []byte
}

// Policy is a stored policy document.
type Policy struct {
	policy.Policy
	Revision uint64 // of all policies, when this one last changed
	Author   string
	Time     time.Time
}

// What an apply or delete does to a policy.
const (
	Created   = "created"
	Updated   = "updated"
	Unchanged = "unchanged"
	Deleted   = "deleted"
)

// Change says what happened to a policy.
type Change struct {
	Policy policy.Policy
	Change string
}

// ParsePolicies reads and validates all files as one set. Its error holds every
// problem of every file.
func ParsePolicies(files []File) ([]policy.Policy, error) {
	var (
		out  []policy.Policy
		errs []error
	)
	for _, f := range files {
		ps, err := policy.Parse(f.Name, f.Data)
		out, errs = append(out, ps...), append(errs, err)
	}
	if err := errors.Join(errors.Join(errs...), policy.Duplicates(out)); err != nil {
		return nil, control.Errorf(control.CodeInvalid, "%v", err)
	}
	return out, nil
}

// ApplyPolicies stores what [ParsePolicies] returned, all or none of it, and
// returns the revision of all policies. Policies that are stored already,
// word for word, change nothing; if all are, the revision stays.
func (s *Service) ApplyPolicies(ctx context.Context, author string, policies []policy.Policy) (revision uint64, changes []Change, err error) {
	revision, err = s.changePolicies(ctx, author, func(stored map[string]Policy, r uint64) (ops ops, err error) {
		changes, ops, err = planApply(stored, policies, stamp{author, r, time.Now()})
		return ops, err
	})
	return revision, changes, err
}

// stamp is who changes policies, to which revision, and when.
type stamp struct {
	author   string
	revision uint64
	time     time.Time
}

func planApply(stored map[string]Policy, policies []policy.Policy, by stamp) (changes []Change, _ ops, _ error) {
	var w writer
	size := 0
	for _, p := range policies {
		old, exists := stored[p.ID()]
		switch {
		case exists && old.Source == p.Source:
			changes = append(changes, Change{p, Unchanged})
			continue
		case exists:
			changes = append(changes, Change{p, Updated})
		default:
			changes = append(changes, Change{p, Created})
		}
		value, err := schema.EncodePolicy(schema.Policy{
			Name: p.ID(), Document: p.Source, Revision: by.revision, Author: by.author, Time: by.time.UTC().Truncate(time.Second),
		})
		w.put(schema.PolicyKey(p.ID()), value, err)
		size += len(value)
	}
	if len(w.ops) > maxOps || size > maxApply {
		return nil, nil, control.Errorf(control.CodeInvalid, "%d changed policies of %d bytes are too many for one change: apply at most %d policies of %d bytes in all at a time", len(w.ops), size, maxOps, maxApply)
	}
	return changes, w.ops, w.err
}

// DeletePolicy removes a stored policy. Its absence is CodeNotFound.
func (s *Service) DeletePolicy(ctx context.Context, author, id string) (revision uint64, change Change, err error) {
	revision, err = s.changePolicies(ctx, author, func(stored map[string]Policy, _ uint64) (ops, error) {
		p, exists := stored[id]
		if !exists {
			return nil, noPolicy(id)
		}
		change = Change{p.Policy, Deleted}
		return ops{kvstore.OpDelete(schema.PolicyKey(id))}, nil
	})
	return revision, change, err
}

func noPolicy(id string) error {
	return control.Errorf(control.CodeNotFound, "there is no policy %q: see plexus policy list", id)
}

// Policies lists the stored policies by ID, and their revision as a whole.
func (s *Service) Policies(ctx context.Context) (policies []Policy, revision uint64, err error) {
	_, current, err := s.policyRevision(ctx)
	if err != nil {
		return nil, 0, err
	}
	kvs, _, err := s.opts.Store.List(ctx, schema.PoliciesPrefix)
	if err != nil {
		return nil, 0, fmt.Errorf("list policies: %w", err)
	}
	for _, kv := range kvs {
		p, err := decodePolicy(kv)
		if err != nil {
			return nil, 0, fmt.Errorf("list policies: %w", err)
		}
		policies = append(policies, p)
	}
	return policies, current.Revision, nil
}

// Policy returns one stored policy. Its absence is CodeNotFound.
func (s *Service) Policy(ctx context.Context, id string) (Policy, error) {
	policies, _, err := s.Policies(ctx)
	if err != nil {
		return Policy{}, err
	}
	for _, p := range policies {
		if p.ID() == id {
			return p, nil
		}
	}
	return Policy{}, noPolicy(id)
}

func decodePolicy(kv kvstore.KV) (Policy, error) {
	name := strings.TrimPrefix(kv.Key, schema.PoliciesPrefix)
	record, err := schema.DecodePolicy(name, kv.Value)
	if err != nil {
		return Policy{}, err
	}
	parsed, err := policy.Parse(name, []byte(record.Document))
	if err != nil {
		return Policy{}, err
	}
	if len(parsed) != 1 || parsed[0].ID() != name {
		return Policy{}, fmt.Errorf("decode %s: the document is not policy %s", kv.Key, name)
	}
	return Policy{Policy: parsed[0], Revision: record.Revision, Author: record.Author, Time: record.Time}, nil
}

// storedPolicies returns the policies by ID. One that this build cannot read, as
// after an upgrade or a downgrade, has its name alone, so that it can still be
// replaced and deleted, and does not stand in the way of others.
func (s *Service) storedPolicies(ctx context.Context) (map[string]Policy, error) {
	kvs, _, err := s.opts.Store.List(ctx, schema.PoliciesPrefix)
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	out := make(map[string]Policy, len(kvs))
	for _, kv := range kvs {
		id := strings.TrimPrefix(kv.Key, schema.PoliciesPrefix)
		if out[id], err = decodePolicy(kv); err != nil {
			dir, name := path.Split(id)
			out[id] = Policy{Policy: policy.Policy{Namespace: strings.TrimSuffix(dir, "/"), Name: name}}
		}
	}
	return out, nil
}

func (s *Service) policyRevision(ctx context.Context) (mod int64, r schema.PolicyRevision, err error) {
	kv, found, err := s.opts.Store.Get(ctx, schema.PolicyRevisionKey)
	if err != nil || !found {
		return 0, schema.PolicyRevision{}, err
	}
	r, err = schema.DecodePolicyRevision(kv.Value)
	return kv.ModRevision, r, err
}

// changePolicies carries plan out, which is told the stored policies and the
// revision that the change will have. No ops means no change and no revision.
func (s *Service) changePolicies(ctx context.Context, author string, plan func(map[string]Policy, uint64) (ops, error)) (uint64, error) {
	for range attempts {
		mod, current, err := s.policyRevision(ctx)
		if err != nil {
			return 0, err
		}
		stored, err := s.storedPolicies(ctx)
		if err != nil {
			return 0, err
		}
		effects, err := plan(stored, current.Revision+1)
		if err != nil || len(effects) == 0 {
			return current.Revision, err
		}
		next := schema.PolicyRevision{Revision: current.Revision + 1, Author: author, Time: time.Now().UTC().Truncate(time.Second)}
		value, err := schema.EncodePolicyRevision(next)
		if err != nil {
			return 0, err
		}
		ok, err := s.opts.Store.Commit(ctx, []kvstore.Cond{kvstore.Unchanged(schema.PolicyRevisionKey, mod)},
			append(effects, kvstore.OpPut(schema.PolicyRevisionKey, value, 0)))
		if err != nil || ok {
			return next.Revision, err
		}
	}
	return 0, errContended
}
