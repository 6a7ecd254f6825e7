package kvstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// EventType says what an [Event] means.
type EventType uint8

// What happens under a prefix, in the order in which a consumer sees it: after
// a start or a Lost come Puts of every key that exists, then one Listed, then
// Puts and Deletes as they happen, until the next Lost.
const (
	Put    EventType = iota // KV has been read or written
	Delete                  // KV.Key has been removed; KV has no value
	Listed                  // every key of Revision has been sent since the start or the last Lost
	Lost                    // the connection or its history is gone; a new list follows
)

// String names the type in logs and tests.
func (t EventType) String() string {
	return [...]string{"put", "delete", "listed", "lost"}[t&3]
}

// Event is one step of [Client.ListAndWatch].
type Event struct {
	Type     EventType
	KV       KV    // of Put and Delete
	Revision int64 // of etcd as a whole, for Put, Delete and Listed
	// More says that further events belong to this one: those of the same list up
	// to Listed, or those of the same revision, which one transaction has written.
	// Until one comes without it, a consumer has seen a part of a whole.
	More bool
	Err  error // of Lost
}

// stable is how long a watch must last before the next one starts without a
// pause that grows.
const stable = 5 * time.Second

// ListAndWatch yields the keys under prefix and then their changes, until ctx
// ends or the consumer stops. It survives outages, restarts of etcd,
// compaction and refused access: each yields one Lost, then, with back-off, a
// new list. It never yields Deletes for keys that a new list lacks; the
// consumer sweeps those at Listed (package mirror does).
func (c *Client) ListAndWatch(ctx context.Context, prefix string) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		var pause Backoff
		for ctx.Err() == nil {
			began := time.Now()
			err := c.listAndWatchOnce(ctx, prefix, yield)
			if errors.Is(err, errStopped) || ctx.Err() != nil || !yield(Event{Type: Lost, Err: err}) {
				return
			}
			if time.Since(began) > stable {
				pause.Reset()
			}
			pause.Wait(ctx)
		}
	}
}

// errStopped means that the consumer wants no more.
var errStopped = errors.New("consumer stopped")

// errConnection means that no server is connected any more.
var errConnection = errors.New("connection lost")

// listAndWatchOnce yields one list and the changes after it, until something
// breaks.
func (c *Client) listAndWatchOnce(ctx context.Context, prefix string, yield func(Event) bool) error {
	kvs, revision, err := c.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, kv := range kvs {
		if !yield(Event{Type: Put, KV: kv, Revision: kv.ModRevision, More: true}) {
			return errStopped
		}
	}
	if !yield(Event{Type: Listed, Revision: revision}) {
		return errStopped
	}
	return c.watch(ctx, watchOf{prefix, revision + 1}, yield)
}

// watchOf is a watch of a prefix from a revision on.
type watchOf struct {
	prefix   string
	revision int64
}

// watch yields changes. A server never spreads a revision over two responses
// (etcd's eventBatch), and the client puts the fragments of a large response
// together again, so that each response holds whole revisions. etcd's client resumes broken watches by itself and in
// silence, so a second look at the connection is needed to tell an outage from
// a quiet day.
func (c *Client) watch(ctx context.Context, w watchOf, yield func(Event) bool) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(c.disconnected(ctx), func() { cancel(errConnection) })
	defer stop()

	opts := []clientv3.OpOption{clientv3.WithRev(w.revision), clientv3.WithFragment()}
	if _, end := span(w.prefix); end != "" {
		opts = append(opts, clientv3.WithRange(end))
	}
	for resp := range c.etcd.Watch(ctx, w.prefix, opts...) {
		if err := resp.Err(); err != nil {
			return wrap("watch", w.prefix, watchError(&resp, err))
		}
		for i, ev := range resp.Events {
			out := eventOf(ev)
			out.More = i+1 < len(resp.Events) && resp.Events[i+1].Kv.ModRevision == out.Revision
			if !yield(out) {
				return errStopped
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return &Error{Op: "watch", Key: w.prefix, Cause: ErrUnavailable, Err: err}
	}
	return &Error{Op: "watch", Key: w.prefix, Cause: ErrUnavailable, Err: errors.New("the server ended it")}
}

// watchError gives a cancelled watch the words that the server sent.
func watchError(resp *clientv3.WatchResponse, err error) error {
	if resp.CompactRevision != 0 {
		return fmt.Errorf("history before revision %d is gone: %w", resp.CompactRevision, err)
	}
	return err
}

// disconnected returns a context that ends when the connection, up now, is up
// no more.
func (c *Client) disconnected(ctx context.Context) context.Context {
	down, cancel := context.WithCancel(ctx)
	conn := c.etcd.ActiveConnection()
	go func() { // ends with ctx
		defer cancel()
		for s := conn.GetState(); s == connectivity.Ready; s = conn.GetState() {
			if !conn.WaitForStateChange(ctx, s) {
				return
			}
		}
	}()
	return down
}

func eventOf(ev *clientv3.Event) Event {
	t := Put
	if ev.Type == mvccpb.DELETE {
		t = Delete
	}
	return Event{Type: t, KV: kvOf(ev.Kv), Revision: ev.Kv.ModRevision}
}
