package reconcile

import (
	"context"
	"time"
)

// Resource is one kind of thing that this process owns outside of itself.
type Resource[D any] interface {
	// Name identifies the resource in logs, in status and in Step.Needs.
	Name() string
	// Ensure creates or corrects what d wants. It deletes nothing, does nothing
	// where nothing differs, and goes on past a failing item.
	Ensure(ctx context.Context, d D) error
	// Prune deletes what d does not want: what this run once wanted at once,
	// and with orphans also what is ours by its mark from an earlier run.
	Prune(ctx context.Context, d D, orphans bool) error
}

// Step places a Resource in the order of effects.
type Step[D any] struct {
	Resource Resource[D]
	// Needs names earlier steps whose failure holds this one back, because going
	// on without them would open traffic or leave it in plaintext. Every other
	// failure stops nobody else.
	Needs []string
}

// Health is how a resource's last effects ended.
type Health struct {
	Name     string
	Err      error     // nil once Ensure and Prune succeeded
	Held     bool      // not tried, since a step that it needs fails
	Failures int       // in a row
	Since    time.Time // of the first failure in a row
}

// retryDelay is how long a resource that failed n times in a row is left alone.
func retryDelay(n int) time.Duration {
	const first, longest = 100 * time.Millisecond, 10 * time.Second
	d := first
	for ; n > 1 && d < longest; n-- {
		d *= 2
	}
	return min(d, longest)
}
