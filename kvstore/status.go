package kvstore

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Status is what one etcd server says of itself.
type Status struct {
	Endpoint string
	Version  string // of etcd
	Leader   bool   // whether this server leads the etcd cluster
	Revision int64
	Size     int64    // of the data file, bytes
	InUse    int64    // of it, bytes that are not free pages
	Quota    int64    // size at which etcd takes no more writes, bytes
	Errors   []string // alarms, "NOSPACE" for one
	Err      error    // why it did not answer; the fields above are zero then
}

// Status asks every endpoint in turn.
func (c *Client) Status(ctx context.Context) []Status {
	out := make([]Status, 0, len(c.opts.Endpoints))
	for _, ep := range c.opts.Endpoints {
		out = append(out, c.statusOf(ctx, ep))
	}
	return out
}

func (c *Client) statusOf(ctx context.Context, endpoint string) Status {
	var resp *clientv3.StatusResponse
	err := c.do(ctx, request{"read status of", endpoint, false}, func(ctx context.Context) (err error) {
		resp, err = c.etcd.Status(ctx, endpoint)
		return err
	})
	if err != nil {
		return Status{Endpoint: endpoint, Err: err}
	}
	return Status{
		Endpoint: endpoint, Version: resp.Version, Leader: resp.Leader == resp.Header.MemberId,
		Revision: resp.Header.Revision, Size: resp.DbSize, InUse: resp.DbSizeInUse,
		Quota: resp.DbSizeQuota, Errors: resp.Errors,
	}
}

// Compact drops the history before revision. etcd does so by itself every
// hour; watches that are further behind start over.
func (c *Client) Compact(ctx context.Context, revision int64) error {
	return c.do(ctx, request{"compact", "", false}, func(ctx context.Context) error {
		_, err := c.etcd.Compact(ctx, revision, clientv3.WithCompactPhysical())
		return err
	})
}
