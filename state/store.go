package state

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Tables are the nouns that one source knows of.
type Tables struct {
	Nodes      map[string]mesh.Node // by mesh.Node.ID
	Endpoints  map[netip.Prefix]mesh.Endpoint
	Identities map[mesh.Identity]identity.Labels
	Policies   map[string]policy.Policy // by policy.Policy.ID
	Revision   Revision                 // of the mesh's policies; zero before the first
}

// Revision is the last change to the mesh's policies.
type Revision struct {
	Number uint64 // counts the changes
	Author string
	Time   time.Time
	// Window is how long hosts enforce the revision unless it is confirmed; 0 for
	// one that stands.
	Window time.Duration
	// Undo takes back what the revision changed: the policies before, by
	// policy.Policy.ID, nil for one that did not exist. Kept while Window is not 0.
	Undo map[string]*policy.Policy
}

// Pending reports whether the revision waits for its confirmation.
func (r Revision) Pending() bool { return r.Window > 0 }

func newTables() Tables {
	return Tables{
		Nodes:      make(map[string]mesh.Node),
		Endpoints:  make(map[netip.Prefix]mesh.Endpoint),
		Identities: make(map[mesh.Identity]identity.Labels),
		Policies:   make(map[string]policy.Policy),
	}
}

// Source says how far one source has come.
type Source struct {
	Name   string
	Synced bool // whether everything that it had at the start has been pushed, once
	// Restored says that it has not, and that what an earlier run heard of it
	// stands in.
	Restored bool
}

// Snapshot is what is known at one moment. Nobody changes it.
type Snapshot struct {
	Tables
	Sources []Source // in order of precedence
}

// Synced reports whether every source has been heard from.
func (s Snapshot) Synced() bool {
	for _, src := range s.Sources {
		if !src.Synced {
			return false
		}
	}
	return len(s.Sources) > 0
}

// Known reports whether enough is known to plan with: every source has been
// heard from, by this run or by one before it.
func (s Snapshot) Known() bool {
	for _, src := range s.Sources {
		if !src.Synced && !src.Restored {
			return false
		}
	}
	return len(s.Sources) > 0
}

// Restored reports whether something that only an earlier run heard of is in use.
func (s Snapshot) Restored() bool {
	return slices.ContainsFunc(s.Sources, func(src Source) bool { return src.Restored })
}

// Store collects what sources push.
type Store struct {
	changed chan struct{}

	mu      sync.Mutex
	order   []string
	sources map[string]*entry
}

type entry struct {
	Source
	tables  Tables
	earlier Tables // of an earlier run: counts only where tables are silent, until Synced
}

// New returns a Store for the named sources. Where two of them speak of the same
// thing, the one named first is believed.
func New(sources ...string) *Store {
	s := &Store{changed: make(chan struct{}, 1), order: sources, sources: make(map[string]*entry)}
	for _, name := range sources {
		s.sources[name] = &entry{Source: Source{Name: name}, tables: newTables(), earlier: newTables()}
	}
	return s
}

// Changed receives after any number of changes.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Update lets f change what source says. A source that New was not told of is
// ignored: it has no rank.
func (s *Store) Update(source string, f func(*Tables)) {
	s.with(source, func(e *entry) { f(&e.tables) })
}

// Complete lets f, which may be nil, change what source says, and records that it
// has pushed everything that it had at the start. What was restored of it, and was
// not pushed again, goes in the same step: nobody sees parts of both.
func (s *Store) Complete(source string, f func(*Tables)) {
	s.with(source, func(e *entry) {
		if f != nil {
			f(&e.tables)
		}
		e.Synced, e.Restored, e.earlier = true, false, newTables()
	})
}

// Restore lets f say what an earlier run knew of source. It counts where source
// itself has been silent, until source is synced; afterwards f is not called. It
// reports whether it was.
func (s *Store) Restore(source string, f func(*Tables)) bool {
	restored := false
	s.with(source, func(e *entry) {
		if e.Synced {
			return
		}
		e.earlier = newTables()
		f(&e.earlier)
		e.Restored, restored = true, true
	})
	return restored
}

func (s *Store) with(source string, f func(*entry)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.sources[source]
	if !ok {
		return
	}
	f(e)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Snapshot merges what all sources say.
func (s *Store) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{Tables: newTables()}
	for _, name := range s.order {
		e := s.sources[name]
		out.Sources = append(out.Sources, e.Source)
		out.merge(e.tables)
		out.merge(e.earlier)
	}
	return out
}

// merge adds what from says and t does not have yet.
func (t *Tables) merge(from Tables) {
	believe(t.Nodes, from.Nodes)
	believe(t.Endpoints, from.Endpoints)
	believe(t.Identities, from.Identities)
	believe(t.Policies, from.Policies)
	if from.Revision.Number > t.Revision.Number {
		t.Revision = from.Revision
	}
}

// believe adds what from says and known does not have yet.
func believe[K comparable, V any](known, from map[K]V) {
	if len(known) == 0 {
		maps.Copy(known, from)
		return
	}
	for k, v := range from {
		if _, ok := known[k]; !ok {
			known[k] = v
		}
	}
}
