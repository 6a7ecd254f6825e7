package registry

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// Bounds of one transaction (etcd takes 128 ops), and of the sightings that are
// remembered of a host.
const (
	maxOps  = 100
	maxSeen = 16
)

// maxRounds bounds how often Settle looks again after a change, and quietly is
// how long a host's refusals stay out of the log after one was told: a host that
// rewrites its claim all the time must neither keep the leader from its other
// duties nor fill the log. The host itself is told every refusal.
const (
	maxRounds = 16
	quietly   = time.Minute
)

// Settle makes facts of what hosts claim, and tells them what it does not
// believe. It writes differences only, and returns how many hosts it changed.
// Calling it again changes nothing more, unless claims have changed meanwhile.
func (s *Service) Settle(ctx context.Context) (changed int, err error) {
	for left := maxRounds; left > 0; {
		n, full := 0, false
		err := s.transact(ctx, func(snap *snapshot) (ops ops, err error) {
			n, full, ops, err = s.settle(snap)
			return ops, err
		})
		changed += n
		if err != nil || n == 0 {
			return changed, err
		}
		if !full {
			left--
		}
	}
	return changed, nil
}

// settle plans one transaction: as many hosts as fit into it. It is full if
// there may be more.
func (s *Service) settle(snap *snapshot) (n int, full bool, _ ops, _ error) {
	facts, refused := control.Judge(snap.world())
	maps.Copy(refused, snap.void)
	var all writer
	for _, node := range slices.Sorted(maps.Keys(snap.hosts)) {
		h := snap.hosts[node]
		if h.Phase != schema.Enrolled {
			continue
		}
		var w writer
		w.identity(snap, h)
		w.facts(snap, h, facts[node])
		if !slices.Equal(snap.told[node], refused[node]) {
			w.refusals(node, refused[node])
			s.warn(node, refused[node])
		}
		if len(w.ops) == 0 {
			continue
		}
		all.ops, n = append(all.ops, w.ops...), n+1
		if w.err != nil || len(all.ops) >= maxOps {
			return n, true, all.ops, w.err
		}
	}
	return n, false, all.ops, nil
}

// warn tells the log what of a claim is refused. Its caller transacts.
func (s *Service) warn(node string, refused []control.Refusal) {
	if len(refused) == 0 || time.Since(s.warned[node]) < quietly {
		return
	}
	s.warned[node] = time.Now()
	for _, r := range refused {
		s.opts.Logger.Warn("claim refused", "node", node, "field", r.Field, "value", r.Value, "reason", r.Reason)
	}
}

// Saw records that this server has seen a host at address, from where it showed
// the certificate with that serial.
func (s *Service) Saw(ctx context.Context, node, serial string, address netip.Addr) error {
	address = address.Unmap()
	return s.transact(ctx, func(snap *snapshot) (ops, error) {
		h, err := snap.holder(node, serial)
		if err != nil {
			return nil, err
		}
		if h.LastSeen == address && slices.Contains(h.Seen, address) {
			return nil, nil
		}
		h.LastSeen, h.SeenAt = address, time.Now().UTC().Truncate(time.Second)
		h.Seen = slices.DeleteFunc(slices.Clone(h.Seen), func(a netip.Addr) bool { return a == address })
		h.Seen = slices.Insert(h.Seen, 0, address)
		h.Seen = h.Seen[:min(len(h.Seen), maxSeen)]
		var w writer
		w.host(h)
		return w.ops, w.err
	})
}

// Check reports why the certificate with that serial does not speak for node.
func (s *Service) Check(ctx context.Context, node, serial string) error {
	kv, found, err := s.opts.Store.Get(ctx, schema.HostKey(node))
	if err != nil {
		return err
	}
	snap := &snapshot{hosts: map[string]schema.Host{}}
	if found {
		if snap.hosts[node], err = schema.DecodeHost(node, kv.Value); err != nil {
			return err
		}
	}
	_, err = snap.holder(node, serial)
	return err
}

// holder returns the enrolled host whose certificate has that serial.
func (s *snapshot) holder(node, serial string) (schema.Host, error) {
	h, found := s.hosts[node]
	if !found || h.Serial != serial || h.Phase != schema.Enrolled {
		return schema.Host{}, control.Errorf(control.CodeForbidden, "host %s is not part of this mesh with this certificate: it was removed; leave with --force and join again", node)
	}
	return h, nil
}
