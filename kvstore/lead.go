package kvstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// leaderTTL is how long a leader that vanished stays leader.
const leaderTTL = 10 * time.Second

// errDeposed ends the context of a leader whose lease is gone.
var errDeposed = errors.New("leadership is lost")

// Lead competes under the prefix name, as id, and runs fn while it leads. The
// context of fn ends when leadership is lost; once fn has then returned, Lead
// competes again. When fn returns by itself, Lead hands leadership over and
// returns what fn returned. It returns nil when ctx ends.
func (c *Client) Lead(ctx context.Context, name, id string, fn func(context.Context) error) error {
	var pause Backoff
	for ctx.Err() == nil {
		done, err := c.term(ctx, candidate{name, id}, fn)
		if done && ctx.Err() == nil {
			return err
		}
		if err != nil && ctx.Err() == nil {
			c.opts.Logger.Debug("not leading", "error", err)
		}
		pause.Wait(ctx)
	}
	return nil
}

// Leader returns the id of who leads under the prefix name now.
func (c *Client) Leader(ctx context.Context, name string) (id string, ok bool, err error) {
	kvs, _, err := c.List(ctx, name)
	if err != nil || len(kvs) == 0 {
		return "", false, err
	}
	first := kvs[0]
	for _, kv := range kvs {
		if kv.CreateRevision < first.CreateRevision {
			first = kv
		}
	}
	return string(first.Value), true, nil
}

type candidate struct{ name, id string }

// term runs for office once and, elected, runs fn. done reports that fn ended
// by itself.
func (c *Client) term(ctx context.Context, who candidate, fn func(context.Context) error) (done bool, err error) {
	lease, err := c.Grant(ctx, leaderTTL)
	if err != nil {
		return false, err
	}
	defer c.abandon(lease)
	session, err := concurrency.NewSession(c.etcd, concurrency.WithLease(clientv3.LeaseID(lease)), concurrency.WithContext(ctx))
	if err != nil {
		return false, wrap("hold lease for", who.name, err)
	}
	defer session.Orphan()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(session.Ctx(), func() { cancel(errDeposed) })
	defer stop()

	if err := concurrency.NewElection(session, trimSlash(who.name)).Campaign(ctx, who.id); err != nil {
		return false, wrap("campaign for", who.name, err)
	}
	c.opts.Logger.Info("leading", "name", who.name, "node", who.id)
	err = fn(ctx)
	if deposed := context.Cause(ctx); errors.Is(deposed, errDeposed) {
		return false, fmt.Errorf("lead %s: %w", who.name, deposed)
	}
	return true, err
}

// trimSlash removes the slash that the election adds again.
func trimSlash(prefix string) string {
	if n := len(prefix); n > 0 && prefix[n-1] == '/' {
		return prefix[:n-1]
	}
	return prefix
}

// abandon gives up a lease at once, so that the next leader need not wait for
// it to lapse. It lapses by itself when etcd cannot be told.
func (c *Client) abandon(lease int64) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := c.Revoke(ctx, lease); err != nil {
		c.opts.Logger.Debug("leave lease to lapse", "error", err)
	}
}
