package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// Removal says who removes a host, and why.
type Removal struct {
	Author string
	Reason string
	Serial string // if set, only the enrolment with this certificate is removed
}

// RemoveNode takes a host out of the mesh: its facts go and its certificate is
// revoked in one transaction, then its etcd user and its open watches. A
// removal that was interrupted is continued by [Service.Sweep], or by asking
// again.
func (s *Service) RemoveNode(ctx context.Context, node string, r Removal) error {
	var gone schema.Host
	err := s.transact(ctx, func(snap *snapshot) (ops, error) {
		h, found := snap.hosts[node]
		gone = h
		switch {
		case !found, r.Serial != "" && h.Serial != r.Serial:
			return nil, control.Errorf(control.CodeNotFound, "there is no host %q: see plexus node list", node)
		case h.Server:
			return nil, control.Errorf(control.CodeConflict, "host %s runs the server of the mesh: without it the mesh cannot be changed; plexus leave --force on it ends the mesh", node)
		}
		return s.withdraw(ctx, snap, h, r)
	})
	if err != nil {
		return err
	}
	return s.forget(ctx, gone)
}

// withdraw plans the first step out: nothing of the host counts any more, but
// its record still keeps its name from being used.
func (s *Service) withdraw(ctx context.Context, snap *snapshot, h schema.Host, r Removal) (ops, error) {
	if h.Phase == schema.Leaving {
		return nil, nil
	}
	var w writer
	if h.Phase == schema.Joining { // nobody has its certificate yet
		if err := s.giveBack(ctx, snap, h.Token, &w); err != nil {
			return nil, err
		}
	} else {
		value, err := schema.EncodeRevoked(schema.Revoked{
			Serial: h.Serial, Node: h.Node, Time: time.Now().UTC().Truncate(time.Second), Expires: h.CertExpires,
			Author: r.Author, Reason: r.Reason,
		})
		w.put(schema.RevokedKey(h.Serial), value, err)
	}
	w.remove(snap.layout.Node(h.Node))
	for _, p := range control.HostPrefixes(h.Mesh4, h.Mesh6) {
		w.remove(snap.layout.Endpoint(p))
	}
	w.remove(schema.ClaimKey(h.Node))
	w.remove(schema.LiveKey(h.Node))
	w.remove(schema.RefusalKey(h.Node))
	if snap.lastOf(h) {
		w.remove(snap.layout.Identity(h.Identity))
	}
	h.Phase, h.Changed = schema.Leaving, time.Now().UTC().Truncate(time.Second)
	w.host(h)
	return w.ops, w.err
}

// lastOf reports whether no other host has h's identity.
func (s *snapshot) lastOf(h schema.Host) bool {
	for name, other := range s.hosts {
		if name != h.Node && other.Phase != schema.Leaving && other.Identity == h.Identity {
			return false
		}
	}
	return true
}

// giveBack returns the use of a token that came to nothing.
func (s *Service) giveBack(ctx context.Context, snap *snapshot, id string, w *writer) error {
	if id == "" {
		return nil
	}
	t, err := s.token(ctx, id)
	if errors.Is(err, &control.Error{Code: control.CodeNotFound}) {
		return nil
	}
	if err != nil {
		return err
	}
	t.UsesLeft = min(t.UsesLeft+1, t.Uses)
	w.add(t.put())
	snap.conds = append(snap.conds, t.unchanged())
	return nil
}

// forget takes the last steps out: the user, its watches, then the record. As
// the record goes last, no user is ever left without one.
func (s *Service) forget(ctx context.Context, gone schema.Host) error {
	node, user := gone.Node, gone.User()
	if err := s.opts.Store.DeleteUser(ctx, user); err != nil {
		return fmt.Errorf("remove etcd user of host %s: %w", node, err)
	}
	s.opts.Disconnect(user)
	err := s.transact(ctx, func(snap *snapshot) (ops, error) {
		delete(s.warned, node)
		var w writer
		if h, found := snap.hosts[node]; found && h.Phase == schema.Leaving && h.CertKey == gone.CertKey {
			w.remove(schema.HostKey(node))
			w.remove(schema.LiveKey(node)) // written between withdrawal and the end of its user
			w.remove(schema.ClaimKey(node))
		}
		return w.ops, w.err
	})
	if err == nil {
		s.opts.Logger.Info("host removed", "node", node)
	}
	return err
}

// undo takes a failed enrolment back, also when whoever asked has gone away.
func (s *Service) undo(ctx context.Context, h schema.Host) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.abort(ctx, h, Removal{}); err != nil {
		s.opts.Logger.Warn("failed enrolment is left to the leading server", "node", h.Node, "error", err)
	}
}

// abort removes a host that is not wholly enrolled, if it is still the same.
func (s *Service) abort(ctx context.Context, stuck schema.Host, r Removal) error {
	still := false
	err := s.transact(ctx, func(snap *snapshot) (ops, error) {
		h, found := snap.hosts[stuck.Node]
		if still = found && h.Serial == stuck.Serial && h.Phase != schema.Enrolled; !still {
			return nil, nil
		}
		return s.withdraw(ctx, snap, h, r)
	})
	if err != nil || !still {
		return err
	}
	return s.forget(ctx, stuck)
}

// Sweep finishes what servers that died have left: hosts that have been joining
// or leaving for too long. It drops what has no meaning any more: tokens long
// after their time, and revocations of certificates that have expired.
func (s *Service) Sweep(ctx context.Context) error {
	snap, err := s.read(ctx)
	if err != nil {
		return err
	}
	var errs []error
	now := time.Now()
	for node, h := range snap.hosts {
		stuck := h.Phase == schema.Joining && now.Sub(h.Changed) > joinGrace || h.Phase == schema.Leaving && now.Sub(h.Changed) > leaveGrace
		if stuck {
			s.opts.Logger.Warn("removing a host that is stuck", "node", node, "phase", string(h.Phase))
			errs = append(errs, s.abort(ctx, h, Removal{Reason: "swept"}))
		}
	}
	return errors.Join(append(errs, s.sweepRecords(ctx, now))...)
}

// sweepRecords drops tokens and revocations that changed nothing any more.
func (s *Service) sweepRecords(ctx context.Context, now time.Time) error {
	var stale []kvstore.KV
	for prefix, over := range map[string]func(name string, value []byte) (time.Time, error){
		schema.TokensPrefix: func(name string, value []byte) (time.Time, error) {
			t, err := schema.DecodeToken(name, value)
			return t.Expires.Add(keepTokens), err
		},
		schema.RevokedPrefix: func(name string, value []byte) (time.Time, error) {
			r, err := schema.DecodeRevoked(name, value)
			return r.Expires, err
		},
	} {
		kvs, _, err := s.opts.Store.List(ctx, prefix)
		if err != nil {
			return fmt.Errorf("sweep %s: %w", prefix, err)
		}
		for _, kv := range kvs {
			end, err := over(strings.TrimPrefix(kv.Key, prefix), kv.Value)
			if err != nil {
				return fmt.Errorf("sweep %s: %w", prefix, err)
			}
			if now.After(end) {
				stale = append(stale, kv)
			}
		}
	}
	for _, kv := range stale {
		// One that changed meanwhile is looked at next time.
		_, err := s.opts.Store.Commit(ctx, []kvstore.Cond{kvstore.Unchanged(kv.Key, kv.ModRevision)}, ops{kvstore.OpDelete(kv.Key)})
		if err != nil {
			return err
		}
	}
	return nil
}
