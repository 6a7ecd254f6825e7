package calm

import (
	"context"
	"time"
)

// Options say what is waited for.
type Options struct {
	Changes <-chan struct{} // one value for any number of changes; required
	Hurry   <-chan struct{} // a value ends the wait; may be nil
	Quiet   time.Duration   // without a change that counts as a pause
	Latest  time.Duration   // after which the wait ends, pause or not
}

// Wait returns once changes pause, somebody hurries, it is late, or ctx ends.
func Wait(ctx context.Context, o Options) {
	latest := time.NewTimer(o.Latest)
	defer latest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-latest.C:
			return
		case <-o.Hurry:
			return
		case <-o.Changes:
		case <-time.After(o.Quiet):
			return
		}
	}
}
