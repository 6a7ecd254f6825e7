package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/policy"
)

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

func noPolicy(id string) error {
	return control.Errorf(control.CodeNotFound, "there is no policy %q: see plexus policy list", id)
}

// Policies lists the stored policies by ID, and the revision that they are of.
func (s *Service) Policies(ctx context.Context) (policies []Policy, revision uint64, err error) {
	stored, err := s.shelf(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range slices.Sorted(maps.Keys(stored.records)) {
		p, err := parseStored(stored.records[id])
		if err != nil {
			return nil, 0, fmt.Errorf("list policies: %w", err)
		}
		policies = append(policies, p)
	}
	return policies, stored.current.Revision, nil
}

// Policy returns one stored policy. Its absence is CodeNotFound.
func (s *Service) Policy(ctx context.Context, id string) (Policy, error) {
	kv, found, err := s.opts.Store.Get(ctx, schema.PolicyKey(id))
	if err != nil {
		return Policy{}, fmt.Errorf("read policy %s: %w", id, err)
	}
	if !found || id == schema.PolicyRevisionName {
		return Policy{}, noPolicy(id)
	}
	record, err := schema.DecodePolicy(id, kv.Value)
	if err != nil {
		return Policy{}, err
	}
	return parseStored(record)
}

func parseStored(record schema.Policy) (Policy, error) {
	p, err := parseDocument(record.Name, record.Document)
	return Policy{Policy: p, Revision: record.Revision, Author: record.Author, Time: record.Time}, err
}

// parseDocument reads the one policy that a document of that ID holds.
func parseDocument(id, document string) (policy.Policy, error) {
	parsed, err := policy.Parse(id, []byte(document))
	if err != nil {
		return policy.Policy{}, err
	}
	if len(parsed) != 1 || parsed[0].ID() != id {
		return policy.Policy{}, fmt.Errorf("read policy %s: its document is not that policy", id)
	}
	return parsed[0], nil
}
