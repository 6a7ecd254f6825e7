package kvstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/plexusmesh/plexus/kvstore/internal/zaplog"
)

// Defaults of [Options].
const (
	DefaultDialTimeout    = 3 * time.Second
	DefaultRequestTimeout = 5 * time.Second
	DefaultKeepAlive      = 10 * time.Second
	DefaultPageSize       = 256
)

// Options configures a [Client].
type Options struct {
	Endpoints []string     // URLs, "https://192.0.2.1:2379"; at least one
	TLS       *tls.Config  // nil for plaintext; read again at every handshake through its Get… functions
	Logger    *slog.Logger // required; etcd's own lines appear at debug

	DialTimeout    time.Duration // of one connection attempt; default 3 s
	RequestTimeout time.Duration // of one request with all its retries; default 5 s
	KeepAlive      time.Duration // how long a silent connection is trusted; default 10 s
	PageSize       int64         // keys per page of a list; default 256
}

// Client is a connection to etcd. All methods are safe for concurrent use, end
// with their context, and give up after RequestTimeout when etcd is away.
type Client struct {
	etcd *clientv3.Client
	opts Options
}

// KV is a key with its value.
type KV struct {
	Key            string
	Value          []byte
	ModRevision    int64 // revision of the last write
	CreateRevision int64
	Lease          int64 // 0 when the key outlives its writer
}

// Open prepares a client. It does not wait for a connection, so it works while
// etcd is away.
func Open(opts Options) (*Client, error) {
	if len(opts.Endpoints) == 0 {
		return nil, errors.New("open etcd client: no endpoint is given")
	}
	if opts.Logger == nil {
		return nil, errors.New("open etcd client: no logger is given")
	}
	opts = opts.withDefaults()
	etcd, err := clientv3.New(opts.etcd())
	if err != nil {
		return nil, fmt.Errorf("open etcd client for %s: %w", strings.Join(opts.Endpoints, ","), err)
	}
	return &Client{etcd: etcd, opts: opts}, nil
}

func (o Options) withDefaults() Options {
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.RequestTimeout, DefaultRequestTimeout)
	setDefault(&o.KeepAlive, DefaultKeepAlive)
	setDefault(&o.PageSize, DefaultPageSize)
	return o
}

func setDefault[T ~int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// etcd translates the options. Reconnects are tried at least every 5 s: etcd's
// own default grows to two minutes, long after a server is back.
func (o Options) etcd() clientv3.Config {
	retry := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: backoffMin, Multiplier: 1.6, Jitter: 0.5, MaxDelay: backoffMax},
		MinConnectTimeout: o.DialTimeout,
	}
	return clientv3.Config{
		Endpoints:            o.Endpoints,
		TLS:                  o.TLS,
		DialTimeout:          o.DialTimeout,
		DialKeepAliveTime:    o.KeepAlive,
		DialKeepAliveTimeout: o.KeepAlive / 2,
		PermitWithoutStream:  true,
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(retry)},
		BackoffWaitBetween:   backoffMin,
		Logger:               zaplog.New(o.Logger, zaplog.Quiet),
	}
}

// Close ends the connection and everything that still uses it.
func (c *Client) Close() error { return c.etcd.Close() }

// Endpoints returns the servers that the client was given.
func (c *Client) Endpoints() []string { return c.opts.Endpoints }

// Get reads one key. The bool reports whether it exists.
func (c *Client) Get(ctx context.Context, key string) (KV, bool, error) {
	var resp *clientv3.GetResponse
	err := c.do(ctx, request{"get", key, true}, func(ctx context.Context) (err error) {
		resp, err = c.etcd.Get(ctx, key)
		return err
	})
	if err != nil || len(resp.Kvs) == 0 {
		return KV{}, false, err
	}
	return kvOf(resp.Kvs[0]), true, nil
}

// List reads all keys under prefix, sorted, as they were at one revision,
// which it returns. It reads page by page.
func (c *Client) List(ctx context.Context, prefix string) (kvs []KV, revision int64, err error) {
	from, end := span(prefix)
	for {
		resp, err := c.page(ctx, pageOf{prefix, from, end, revision})
		if err != nil {
			return nil, 0, err
		}
		if revision == 0 {
			revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			kvs = append(kvs, kvOf(kv))
		}
		if !resp.More || len(resp.Kvs) == 0 {
			return kvs, revision, nil
		}
		from = kvs[len(kvs)-1].Key + "\x00"
	}
}

// pageOf is one page of a list: keys from up to, without, end, at a revision.
type pageOf struct {
	prefix, from, end string
	revision          int64 // 0 for the newest
}

func (c *Client) page(ctx context.Context, p pageOf) (resp *clientv3.GetResponse, err error) {
	opts := []clientv3.OpOption{
		clientv3.WithLimit(c.opts.PageSize), clientv3.WithRev(p.revision),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend),
	}
	if p.end != "" {
		opts = append(opts, clientv3.WithRange(p.end))
	}
	err = c.do(ctx, request{"list", p.prefix, true}, func(ctx context.Context) (err error) {
		resp, err = c.etcd.Get(ctx, p.from, opts...)
		return err
	})
	return resp, err
}

// span returns the range of a prefix; end is "" for a single key.
func span(prefix string) (from, end string) {
	if !strings.HasSuffix(prefix, "/") {
		return prefix, ""
	}
	return prefix, clientv3.GetPrefixRangeEnd(prefix)
}

// Put writes a key, bound to a lease unless lease is 0, and returns the
// revision of the write.
func (c *Client) Put(ctx context.Context, key string, value []byte, lease int64) (revision int64, err error) {
	err = c.do(ctx, request{"put", key, true}, func(ctx context.Context) error {
		resp, err := c.etcd.Put(ctx, key, string(value), clientv3.WithLease(clientv3.LeaseID(lease)))
		if err == nil {
			revision = resp.Header.Revision
		}
		return err
	})
	return revision, err
}

// Delete removes a key. Removing one that does not exist is no error.
func (c *Client) Delete(ctx context.Context, key string) error {
	return c.do(ctx, request{"delete", key, true}, func(ctx context.Context) error {
		_, err := c.etcd.Delete(ctx, key)
		return err
	})
}

// request describes a call for retries and errors.
type request struct {
	op, key string
	repeat  bool // doing it twice is the same as doing it once
}

// do runs f within the request timeout. It repeats f when the server has not
// executed it for certain, and, where repeating is harmless, when it may have.
func (c *Client) do(ctx context.Context, r request, f func(context.Context) error) error {
	inner, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	var pause Backoff
	for {
		err := f(inner)
		if err == nil {
			return nil
		}
		again := refused(err) || r.repeat && errors.Is(causeOf(err), ErrUnavailable)
		if again && inner.Err() == nil && pause.Wait(inner) {
			continue
		}
		if ctx.Err() != nil { // the caller's own decision is no outage
			return &Error{Op: r.op, Key: r.key, Err: context.Cause(ctx)}
		}
		return wrap(r.op, r.key, err)
	}
}

// refused reports that the server has not executed the request because the
// users or roles changed between its arrival and its turn.
func refused(err error) bool { return same(err, rpctypes.ErrAuthOldRevision) }
