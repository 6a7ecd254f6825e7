package agent

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/internal/calm"
)

// bootFile holds bootFacts. Like every file of the state directory it belongs to
// root alone.
func bootFile(stateDir string) string { return filepath.Join(stateDir, "boot.json") }

// bootFacts are what a boot must know of its host before there is anything to
// see: interfaces have no addresses then, and no SSH server listens.
type bootFacts struct {
	Links map[string]bootLink `json:"links"` // managed interfaces, by name
	SSH   map[uint16]bootPort `json:"ssh"`   // TCP ports that SSH servers listen on
}

// bootLink is a managed interface.
type bootLink struct {
	Addresses []netip.Addr `json:"addresses"`     // node addresses that it has, or had last
	Gone      time.Time    `json:"gone,omitzero"` // since when it is not managed; zero while it is
}

// bootPort is a port that somebody listens on.
type bootPort struct {
	Gone time.Time `json:"gone,omitzero"`
}

// keepGone is how long what is not there any more is kept in mind. A host that
// shuts down takes its interfaces and its SSH server away before plexusd ends,
// and the next boot must know them all the same.
const keepGone = 24 * time.Hour

func forgotten(gone, now time.Time) bool { return !gone.IsZero() && now.Sub(gone) > keepGone }

// firstGone is since when something is gone that was so before, or is now.
func firstGone(before, now time.Time) time.Time {
	if before.IsZero() {
		return now
	}
	return before
}

// withLinks returns f once exactly these interfaces are managed.
func (f bootFacts) withLinks(managed []device.Uplink, now time.Time) bootFacts {
	out := bootFacts{Links: make(map[string]bootLink), SSH: f.SSH}
	for name, l := range f.Links {
		if l.Gone = firstGone(l.Gone, now); !forgotten(l.Gone, now) {
			out.Links[name] = l
		}
	}
	for _, u := range managed {
		out.Links[u.Name] = bootLink{Addresses: u.Addresses}
	}
	return out
}

// withSSH returns f once SSH servers listen on exactly these ports.
func (f bootFacts) withSSH(ports []uint16, now time.Time) bootFacts {
	out := bootFacts{Links: f.Links, SSH: make(map[uint16]bootPort)}
	for port, p := range f.SSH {
		if p.Gone = firstGone(p.Gone, now); !forgotten(p.Gone, now) {
			out.SSH[port] = p
		}
	}
	for _, port := range ports {
		out.SSH[port] = bootPort{}
	}
	return out
}

// addresses returns every address that an interface has, or had last, sorted.
func (f bootFacts) addresses() []netip.Addr {
	var out []netip.Addr
	for _, l := range f.Links {
		out = append(out, l.Addresses...)
	}
	return sortedSet(out, netip.Addr.Compare)
}

// ports returns the SSH ports, sorted.
func (f bootFacts) ports() []uint16 { return slices.Sorted(maps.Keys(f.SSH)) }

func sortedSet[T comparable](all []T, compare func(a, b T) int) []T {
	slices.SortFunc(all, compare)
	return slices.Compact(all)
}

// reminder keeps bootFacts on disk for the next boot.
type reminder struct {
	path   string
	logger *slog.Logger
	clock  func() time.Time
	news   chan struct{} // holds one token while the file is to be written

	mu     sync.Mutex
	facts  bootFacts
	failed bool // whether the last attempt to write failed
}

// openReminder reads what an earlier run noted. What cannot be read is logged and
// forgotten.
func openReminder(stateDir string, logger *slog.Logger) (*reminder, error) {
	r := &reminder{path: bootFile(stateDir), logger: logger, clock: time.Now, news: make(chan struct{}, 1)}
	if err := atomicfile.Sweep(r.path); err != nil {
		return nil, err
	}
	known, err := readJSON[bootFacts](r.path)
	if err != nil {
		logger.Error("interfaces of earlier boots not remembered: they are noted anew", "path", r.path, "error", err)
	}
	if known != nil {
		r.facts = *known
	}
	return r, nil
}

// links notes which interfaces are managed.
func (r *reminder) links(managed []device.Uplink) {
	r.note(func(f bootFacts) bootFacts { return f.withLinks(managed, r.clock()) })
}

// ssh notes on which ports SSH servers listen.
func (r *reminder) ssh(ports []uint16) {
	r.note(func(f bootFacts) bootFacts { return f.withSSH(ports, r.clock()) })
}

func (r *reminder) note(change func(bootFacts) bootFacts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := change(r.facts)
	if !reflect.DeepEqual(next, r.facts) {
		r.facts = next
		signal(r.news)
	}
}

// noteWithin bounds how long changes are collected before they are written.
const noteWithin = 5 * time.Second

// Run writes what is noted, beside everything else, since a disk may hang. It
// returns nil when ctx ends, and writes what is left then.
func (r *reminder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.news:
			calm.Wait(ctx, calm.Options{Changes: r.news, Quiet: time.Second, Latest: noteWithin})
			r.retry(ctx)
		}
	}
	select {
	case <-r.news:
		_ = r.save() // it has logged why not
	default:
	}
	return nil
}

// retry writes until that succeeds or ctx ends.
func (r *reminder) retry(ctx context.Context) {
	for r.save() != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(noteWithin):
		}
	}
}

func (r *reminder) save() error {
	r.mu.Lock()
	facts := r.facts
	r.mu.Unlock()
	err := writeJSON(r.path, &facts)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !r.failed {
		r.logger.Error("interfaces of this host not on disk: a boot would not know them", "path", r.path, "error", err)
	}
	r.failed = err != nil
	return err
}
