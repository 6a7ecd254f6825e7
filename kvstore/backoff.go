package kvstore

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the pause between two attempts.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Backoff doubles the pause between attempts from 100 ms to 5 s. Half of each
// pause is random, so that hosts which lost etcd together return apart. The
// zero Backoff is ready; it is not safe for concurrent use.
type Backoff struct{ next time.Duration }

// Reset makes the next pause the shortest again.
func (b *Backoff) Reset() { b.next = 0 }

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	d := min(max(b.next, backoffMin), backoffMax)
	b.next = 2 * d
	return d/2 + rand.N(d/2+1)
}

// Wait pauses. It reports whether the pause was full, and not cut short by ctx.
func (b *Backoff) Wait(ctx context.Context) bool {
	t := time.NewTimer(b.Next())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
