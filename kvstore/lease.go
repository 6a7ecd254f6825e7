package kvstore

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// minTTL is the shortest lease that etcd's own election timeout lets it keep.
const minTTL = 2 * time.Second

// KeepLease holds a lease of ttl (at least 2 s) until ctx ends, and returns
// nil then. granted is called with the lease's id each time there is a new
// one: at the start, and whenever etcd has forgotten the old one, with which
// the keys bound to it are gone; it must not block. While etcd is away
// KeepLease tries again and again. At the end the lease is left to lapse, so
// that a daemon which restarts is not missed.
func (c *Client) KeepLease(ctx context.Context, ttl time.Duration, granted func(lease int64)) error {
	ttl = max(ttl, minTTL)
	var pause Backoff
	for {
		id, err := c.Grant(ctx, ttl)
		if err == nil {
			pause.Reset()
			granted(id)
			err = c.renew(ctx, id, ttl)
		}
		if ctx.Err() != nil {
			return nil
		}
		c.opts.Logger.Debug("lease is lost", "error", err)
		if !pause.Wait(ctx) {
			return nil
		}
	}
}

// Grant asks for a lease that lapses after ttl unless it is kept. Whole seconds
// count.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (lease int64, err error) {
	err = c.do(ctx, request{"grant", "lease", true}, func(ctx context.Context) error {
		resp, err := c.etcd.Grant(ctx, int64(ttl/time.Second))
		if err == nil {
			lease = int64(resp.ID)
		}
		return err
	})
	return lease, err
}

// Revoke ends a lease and removes the keys bound to it. Ending one that has
// lapsed is no error.
func (c *Client) Revoke(ctx context.Context, lease int64) error {
	err := c.do(ctx, request{"revoke", "lease", true}, func(ctx context.Context) error {
		_, err := c.etcd.Revoke(ctx, clientv3.LeaseID(lease))
		return err
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// renew keeps the lease until ctx ends or etcd has forgotten it. Errors of any
// other kind do not end it: the lease may still be alive when etcd returns.
func (c *Client) renew(ctx context.Context, lease int64, ttl time.Duration) error {
	tick := time.NewTicker(ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := c.do(ctx, request{"renew", "lease", true}, func(ctx context.Context) error {
			_, err := c.etcd.KeepAliveOnce(ctx, clientv3.LeaseID(lease))
			return err
		})
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
	}
}
