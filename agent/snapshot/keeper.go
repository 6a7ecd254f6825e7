package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/internal/calm"
	"github.com/plexusmesh/plexus/internal/round"
)

// Quiet and Latest say when changes are written: once nothing has changed for
// Quiet, and no later than Latest after the first change.
const (
	Quiet  = time.Second
	Latest = 5 * time.Second
)

// Options configures a Keeper. All are required.
type Options struct {
	Path    string
	Owner   Owner
	Sources []string // that a whole snapshot has
	Logger  *slog.Logger
}

// Keeper keeps the snapshot of one host. A nil Keeper takes what it is told and
// keeps nothing.
type Keeper struct {
	opts    Options
	changed chan struct{} // holds one token while there is something to write
	hurry   chan struct{} // holds one token while somebody waits for it
	writes  round.Round

	mu      sync.Mutex
	earlier *Image // what an earlier run left; nil for nothing that can be used, or is of use any more
	ledgers map[string]*ledger
	files   Values
	refused error // why what an earlier run left is not used
	failed  error // why what is known is not on disk
}

// ledger is what one source delivered. Until it is synced, what an earlier run
// heard of it counts where this run has heard nothing yet.
type ledger struct {
	synced  bool
	earlier Values
	now     Values
}

func (l *ledger) all() Values { return overlay(l.earlier, l.now) }

// Change is one thing that a source delivered.
type Change struct {
	Name  string
	Value []byte
	Gone  bool // whether there is nothing of that name any more
	// Refused says that this daemon could not read the value. Then the one before
	// it is kept, which is still in use; where there is none, the unreadable one is
	// kept, so that the next run does not take what it says for absent.
	Refused bool
}

// Open reads what an earlier run left. Nothing is an empty start; what cannot be
// used is logged, told by Refused and otherwise like nothing.
func Open(o Options) (*Keeper, error) {
	k := &Keeper{opts: o, changed: make(chan struct{}, 1), hurry: make(chan struct{}, 1), ledgers: make(map[string]*ledger)}
	for _, name := range o.Sources {
		k.ledgers[name] = &ledger{now: make(Values)}
	}
	if err := atomicfile.Sweep(o.Path); err != nil {
		return nil, err
	}
	img, err := read(o)
	switch {
	case err == nil:
		k.adopt(img)
	case !errors.Is(err, fs.ErrNotExist):
		k.refused = fmt.Errorf("snapshot %s not used: %w", o.Path, err)
		o.Logger.Error("snapshot refused: nothing is known until etcd is heard", "path", o.Path, "error", err)
	}
	return k, nil
}

func read(o Options) (Image, error) {
	info, err := os.Stat(o.Path)
	if err != nil {
		return Image{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxSize {
		return Image{}, fmt.Errorf("read snapshot: %w: no regular file of at most %d bytes", ErrDamaged, MaxSize)
	}
	data, err := os.ReadFile(o.Path)
	if err != nil {
		return Image{}, err
	}
	return Decode(data, o.Owner)
}

func (k *Keeper) adopt(img Image) {
	k.earlier, k.files = &img, img.Files
	for name, l := range k.ledgers {
		l.earlier = maps.Clone(img.Sources[name])
	}
}

// Earlier returns what an earlier run left, nil for nothing that can be used, or
// once every source has spoken. The caller must not change it.
func (k *Keeper) Earlier() *Image {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.earlier
}

// Refused returns why what an earlier run left is not used, until it is
// overwritten.
func (k *Keeper) Refused() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused
}

// Failed returns why what is known is not on disk.
func (k *Keeper) Failed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failed
}

// Note records what a source delivered at once. No snapshot holds a part of it.
func (k *Keeper) Note(source string, changes []Change) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noteLocked(source, changes)
}

func (k *Keeper) noteLocked(source string, changes []Change) {
	l, known := k.ledgers[source]
	if !known {
		return
	}
	for _, c := range changes {
		if l.note(c) {
			k.kick()
		}
	}
}

// note reports whether c is news.
func (l *ledger) note(c Change) bool {
	was, known := l.now[c.Name]
	if !known {
		was, known = l.earlier[c.Name]
	}
	if c.Gone {
		delete(l.now, c.Name)
		delete(l.earlier, c.Name)
		return known
	}
	if c.Refused && known {
		l.now[c.Name] = was
		return false
	}
	l.now[c.Name] = bytes.Clone(c.Value)
	return !known || !bytes.Equal(was, c.Value)
}

// Complete records what a source delivered at once, with which it has delivered
// everything that it has. No snapshot holds a part of it beside what an earlier run
// heard.
func (k *Keeper) Complete(source string, changes []Change) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.noteLocked(source, changes)
	l, known := k.ledgers[source]
	if !known || l.synced {
		return
	}
	l.synced, l.earlier = true, nil
	k.kick()
	for _, l := range k.ledgers {
		if !l.synced {
			return
		}
	}
	k.earlier = nil // it may be large
}

// SetFiles records the host's own policy files as they are in use.
func (k *Keeper) SetFiles(files Values) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !maps.EqualFunc(k.files, files, bytes.Equal) {
		k.files = maps.Clone(files)
		k.kick()
	}
}

func (k *Keeper) kick() { signal(k.changed) }

// signal leaves a token, unless one is waiting.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Hurry has what is known written at once. The channel is closed when Run has
// tried, whether it could or not.
func (k *Keeper) Hurry() <-chan struct{} {
	tried := k.writes.Ended()
	signal(k.hurry)
	k.kick()
	return tried
}

// image returns what is known, and whether that is everything: a snapshot of
// half a mesh would read as if the other half had gone.
func (k *Keeper) image() (Image, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	img := Image{Saved: time.Now(), Sources: make(map[string]Values, len(k.ledgers)), Files: k.files}
	for name, l := range k.ledgers {
		if !l.synced && l.earlier == nil {
			return Image{}, false
		}
		img.Sources[name] = l.all()
	}
	return img, true
}

// Run writes changes until ctx ends, and what is left then. It returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return k.last()
		case <-k.changed:
		}
		calm.Wait(ctx, calm.Options{Changes: k.changed, Hurry: k.hurry, Quiet: Quiet, Latest: Latest})
		if k.save() != nil {
			k.kick()
			wait(ctx, Latest)
		}
	}
}

// last writes what is left.
func (k *Keeper) last() error {
	select {
	case <-k.changed:
		_ = k.save() // it has logged why not; the next run hears it from etcd
	default:
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// save writes what is known now, if that is everything.
func (k *Keeper) save() error {
	defer k.writes.Begin()()
	img, whole := k.image()
	if !whole {
		return nil // the source that is missing has it written once it has spoken
	}
	data, err := Encode(img, k.opts.Owner)
	if err == nil {
		err = atomicfile.Write(k.opts.Path, data, 0o600)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && k.failed == nil {
		k.opts.Logger.Error("snapshot not written: trying again", "path", k.opts.Path, "error", err)
	}
	if err == nil {
		k.refused = nil
	}
	k.failed = err
	return err
}
