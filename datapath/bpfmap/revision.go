package bpfmap

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// rejudge is what a revision grows by where the policy slot stays, which bit 0
// of the revision names.
const rejudge = 2

// revision is the word that tells programs what they judge by. Every flow that
// was judged under another is judged again.
type revision struct {
	mu    sync.Mutex // held from reading the word to writing it
	state *ebpf.Map
}

func (r *revision) get() (uint32, error) {
	var s bpfobj.PlexusState
	if err := r.state.Lookup(uint32(0), &s); err != nil {
		return 0, fmt.Errorf("read policy revision: %w", err)
	}
	return s.Revision, nil
}

// advanceLocked moves the revision on and returns it.
func (r *revision) advanceLocked(by uint32) (uint32, error) {
	now, err := r.get()
	if err != nil {
		return 0, err
	}
	s := bpfobj.PlexusState{Revision: now + by}
	if err := r.state.Update(uint32(0), &s, ebpf.UpdateExist); err != nil {
		return 0, fmt.Errorf("write policy revision %d: %w", s.Revision, err)
	}
	return s.Revision, nil
}

func (r *revision) rejudge() (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.advanceLocked(rejudge)
}
