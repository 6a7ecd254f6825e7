package observe

import (
	"context"
	"math"
	"slices"
)

// batch is how many flows a reader copies before it lets the recorder in.
const batch = 256

// cursor is how far one reader has come. It copies flows out of the ring and
// judges them afterwards, so that a costly filter does not hold up the recorder.
type cursor struct {
	recorder *Recorder
	accepts  filter
	next     uint64 // number of the flow to read next
	buf      []Flow // reused by every batch
}

// recorded yields what is there already and reports whether to go on.
func (c *cursor) recorded(ctx context.Context, last int, yield func(Flow, error) bool) bool {
	c.recorder.mu.Lock()
	oldest, end := c.recorder.ring.oldest(), c.recorder.ring.next
	c.recorder.mu.Unlock()
	c.next = end
	switch {
	case last > 0:
		return c.newest(ctx, last, yield)
	case last == 0:
		c.next = oldest
	}
	for c.next < end {
		if ctx.Err() != nil || !c.step(end, yield) {
			return false
		}
	}
	return true
}

// newest yields the last n flows before c.next that match.
func (c *cursor) newest(ctx context.Context, n int, yield func(Flow, error) bool) bool {
	var found []Flow // newest first
	for to := c.next; to > 0 && len(found) < n && ctx.Err() == nil; {
		to = c.before(to)
		for i := range slices.Backward(c.buf) {
			if len(found) < n && c.accepts(&c.buf[i]) {
				found = append(found, c.buf[i])
			}
		}
	}
	for _, f := range slices.Backward(found) {
		if ctx.Err() != nil || !yield(f, nil) {
			return false
		}
	}
	return ctx.Err() == nil
}

// before copies the batch that ends at to, and returns where it starts; 0 where
// nothing older is kept.
func (c *cursor) before(to uint64) (from uint64) {
	r := c.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.ring.oldest()
	from = max(oldest, to-min(to, batch))
	c.copyLocked(from, to)
	if from == oldest {
		return 0
	}
	return from
}

// follow yields flows as they come until ctx ends.
func (c *cursor) follow(ctx context.Context, yield func(Flow, error) bool) {
	for c.wait(ctx) {
		if !c.step(math.MaxUint64, yield) {
			return
		}
	}
}

// wait returns once there is a flow to read, or false once ctx has ended.
func (c *cursor) wait(ctx context.Context) bool {
	select {
	case <-c.recorder.after(c.next):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// step yields how many flows before end were lost, and the matching ones of the
// batch that follows.
func (c *cursor) step(end uint64, yield func(Flow, error) bool) bool {
	if lost := c.advance(end); lost > 0 && !yield(Flow{}, &LostError{Count: lost}) {
		return false
	}
	for i := range c.buf {
		if c.accepts(&c.buf[i]) && !yield(c.buf[i], nil) {
			return false
		}
	}
	return true
}

// advance copies the next batch before end, and moves c behind it.
func (c *cursor) advance(end uint64) (lost uint64) {
	r := c.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	if oldest := min(end, r.ring.oldest()); c.next < oldest {
		lost = oldest - c.next
		c.next = oldest
	}
	end = min(end, r.ring.next, c.next+batch)
	c.copyLocked(c.next, end)
	c.next = end
	return lost
}

// copyLocked copies flows from up to to, which the ring must keep.
func (c *cursor) copyLocked(from, to uint64) {
	c.buf = c.buf[:0]
	for n := from; n < to; n++ {
		c.buf = append(c.buf, *c.recorder.ring.at(n))
	}
}
