package agent

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"time"
)

// passedFor is how long a review counts for the change that follows it: hosts
// come and go, and what was right for those there were may not be for others.
const passedFor = time.Minute

// passed remembers the last change that a review found no errors in, so that the
// apply that follows does not wait for the same review again: a change that is
// about every host of a large mesh takes seconds.
type passed struct {
	mu     sync.Mutex
	change [sha256.Size]byte
	base   uint64
	at     time.Time
}

// note remembers a review without errors, of a change to revision base.
func (p *passed) note(change [sha256.Size]byte, base uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change, p.base, p.at = change, base, now
}

// has reports whether that change to that revision passed not long ago. Without
// base it is not known what the change is made to.
func (p *passed) has(change [sha256.Size]byte, base *uint64, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return base != nil && *base == p.base && change == p.change && !p.at.IsZero() && now.Sub(p.at) < passedFor
}

// digest tells proposals apart by all that a review's errors depend on.
func (p proposal) digest() [sha256.Size]byte {
	h := sha256.New()
	for _, is := range p.store {
		fmt.Fprintf(h, "%q\n", is.Source)
	}
	fmt.Fprintf(h, "%q %v", p.remove, p.allowEmpty)
	return [sha256.Size]byte(h.Sum(nil))
}
