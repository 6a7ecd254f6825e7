package round

import "sync"

// Round is for work that is done again and again. The zero Round is ready.
type Round struct {
	mu   sync.Mutex
	next chan struct{} // closed at the end of the next round to begin; nil while nobody waits
}

// Ended returns a channel that is closed once the next round to begin has ended.
// It makes no round begin.
func (r *Round) Ended() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = make(chan struct{})
	}
	return r.next
}

// Begin begins a round, which the function that it returns ends.
func (r *Round) Begin() (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := r.next
	r.next = nil
	return func() {
		if waiting != nil {
			close(waiting)
		}
	}
}
