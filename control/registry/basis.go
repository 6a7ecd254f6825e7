package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Basis is what a change of policy is reviewed against.
type Basis struct {
	Revision   uint64          // of the policies; 0 before the first
	Policies   []policy.Policy // by ID
	Unreadable []string        // IDs of the others: another version of plexusd stored them
	Claims     map[string]mesh.Claim

	stored shelf
}

// Basis reads the policies, at one revision of etcd, and what hosts say of
// themselves.
func (s *Service) Basis(ctx context.Context) (Basis, error) {
	stored, err := s.shelf(ctx)
	if err != nil {
		return Basis{}, err
	}
	out := Basis{Revision: stored.current.Revision, stored: stored}
	for _, id := range slices.Sorted(maps.Keys(stored.records)) {
		p, err := parseDocument(id, stored.records[id].Document)
		if err != nil {
			out.Unreadable = append(out.Unreadable, id)
			continue
		}
		out.Policies = append(out.Policies, p)
	}
	out.Claims, err = s.Claims(ctx)
	return out, err
}

// Change returns the policies as they are once those of store are stored and
// those of remove, by ID, deleted; and what that does to each. It refuses what
// [Service.ApplyPolicies] does: the absence of a policy to delete is
// CodeNotFound.
func (b Basis) Change(store []policy.Policy, remove []string) (after []policy.Policy, changes []Change, err error) {
	named, changes, err := b.stored.compare(store, remove)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range b.Policies {
		if _, replaced := named[p.ID()]; !replaced {
			after = append(after, p)
		}
	}
	t, err := b.stored.revise(schema.PolicyRevision{Action: schema.ActionApply}, named)
	if err == nil && len(t.ops) > 0 {
		err = t.fitsBothWays()
	}
	if err == nil {
		err = t.after.missesGroup(changes)
	}
	return append(after, store...), changes, err
}

// Claims returns what hosts say of themselves, by name, checked by nobody. A
// claim that cannot be read is left out: hosts write what they like.
func (s *Service) Claims(ctx context.Context) (map[string]mesh.Claim, error) {
	kvs, _, err := s.opts.Store.List(ctx, schema.ClaimsPrefix)
	if err != nil {
		return nil, fmt.Errorf("list claims: %w", err)
	}
	out := make(map[string]mesh.Claim, len(kvs))
	for _, kv := range kvs {
		name := strings.TrimPrefix(kv.Key, schema.ClaimsPrefix)
		if c, err := schema.DecodeClaim(name, kv.Value); err == nil {
			out[name] = c
		}
	}
	return out, nil
}
