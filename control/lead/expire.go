package lead

import (
	"context"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
)

// glance is how long the leader trusts its timer to agree with the clock on the
// wall, by which a window closes: that may be set meanwhile.
const glance = time.Second

// expire takes back each revision of the policies whose window has closed, those
// that closed before this term too. It looks again whenever the revision has
// been written, and after whatever fails.
func (l *Leader) expire(ctx context.Context, revised <-chan struct{}) {
	var pause kvstore.Backoff
	for ctx.Err() == nil {
		closes, err := l.opts.Policies.RollbackExpired(ctx, time.Now())
		if err == nil {
			pause.Reset()
			wait(ctx, closes, revised)
			continue
		}
		if ctx.Err() == nil {
			l.opts.Logger.Warn("policy revision not taken back: trying again", "error", err)
		}
		pause.Wait(ctx)
	}
}

// wait returns when the clock on the wall has come to closes, unless that is
// zero, when something is revised, or when ctx ends.
func wait(ctx context.Context, closes time.Time, revised <-chan struct{}) {
	for {
		var timer <-chan time.Time
		if !closes.IsZero() {
			left := time.Until(closes)
			if left <= 0 {
				return
			}
			timer = time.After(min(left, glance))
		}
		select {
		case <-ctx.Done():
			return
		case <-revised:
			return
		case <-timer:
		}
	}
}
