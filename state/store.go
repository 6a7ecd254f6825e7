package state

import (
	"maps"
	"net/netip"
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

// Store collects what sources push.
type Store struct {
	changed chan struct{}

	mu      sync.Mutex
	order   []string
	sources map[string]*entry
}

type entry struct {
	Source
	tables Tables
}

// New returns a Store for the named sources. Where two of them speak of the same
// thing, the one named first is believed.
func New(sources ...string) *Store {
	s := &Store{changed: make(chan struct{}, 1), order: sources, sources: make(map[string]*entry)}
	for _, name := range sources {
		s.sources[name] = &entry{Source: Source{Name: name}, tables: newTables()}
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

// SetSynced records that source has pushed everything that it had at the start.
func (s *Store) SetSynced(source string) {
	s.with(source, func(e *entry) { e.Synced = true })
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
		believe(out.Nodes, e.tables.Nodes)
		believe(out.Endpoints, e.tables.Endpoints)
		believe(out.Identities, e.tables.Identities)
		believe(out.Policies, e.tables.Policies)
		if e.tables.Revision.Number > out.Revision.Number {
			out.Revision = e.tables.Revision
		}
	}
	return out
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
