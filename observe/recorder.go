package observe

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/plexusmesh/plexus/datapath"
)

// DefaultCapacity is how many flows a Recorder keeps unless told otherwise: as
// many as Hubble can, and about 30 MiB once they are all there.
const DefaultCapacity = 65535

// LostError says that flows were overwritten before a reader came to them. It
// stands among the flows, where they are missing, and more flows follow.
type LostError struct{ Count uint64 }

func (e *LostError) Error() string {
	return fmt.Sprintf("%d flows were overwritten before they could be read", e.Count)
}

// Options configures a Recorder.
type Options struct {
	Node     string   // name of this host; required
	Capacity int      // flows that are kept; default DefaultCapacity
	Resolver Resolver // required
}

// Recorder keeps the newest flows of this host and answers questions about
// them. Its methods may be called concurrently. Readers never hold it up: they
// read from the same ring, and one that is too slow misses flows.
type Recorder struct {
	node  string
	names Resolver

	mu    sync.Mutex
	ring  ring
	added chan struct{} // closed when a flow is added; nil while nobody waits
}

// New checks o. It starts nothing.
func New(o Options) (*Recorder, error) {
	switch {
	case o.Node == "" || o.Resolver == nil:
		return nil, errors.New("make flow recorder: node and resolver are required")
	case o.Capacity < 0:
		return nil, fmt.Errorf("make flow recorder: capacity %d is negative", o.Capacity)
	case o.Capacity == 0:
		o.Capacity = DefaultCapacity
	}
	return &Recorder{node: o.Node, names: o.Resolver, ring: ring{capacity: o.Capacity}}, nil
}

// Record adds an event, in place of the oldest one once the ring is full.
func (r *Recorder) Record(e datapath.Event) {
	f := translate(e, r.node, r.names)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring.add(f)
	if r.added != nil {
		close(r.added)
		r.added = nil
	}
}

// Observe yields the recorded flows that match q, oldest first, and then, with
// q.Follow, new ones until ctx ends. A *LostError says that some were missed;
// any other error is the last value.
func (r *Recorder) Observe(ctx context.Context, q Query) iter.Seq2[Flow, error] {
	return func(yield func(Flow, error) bool) {
		accepts, err := q.compile()
		if err != nil {
			yield(Flow{}, err)
			return
		}
		c := &cursor{recorder: r, accepts: accepts}
		if !c.recorded(ctx, q.Last, yield) || !q.Follow {
			return
		}
		c.follow(ctx, yield)
	}
}

// after returns a channel that is closed once flow n is there.
func (r *Recorder) after(n uint64) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n < r.ring.next {
		there := make(chan struct{})
		close(there)
		return there
	}
	if r.added == nil {
		r.added = make(chan struct{})
	}
	return r.added
}
