package localpolicy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/calm"
	"github.com/plexusmesh/plexus/policy"
)

// Bounds of a directory: what goes beyond them is refused.
const (
	MaxFiles = 256
	MaxTotal = 16 << 20 // bytes of all files together; of one: policy.MaxFileSize
)

// Quiet is for how long nothing must change before files are read: whoever
// writes one in several steps is given the time to finish.
const Quiet = 100 * time.Millisecond

// Period is how often files are read although no change was noticed, such as one
// behind a symbolic link, or of the directory itself.
const Period = 10 * time.Second

// Options configures a Directory.
type Options struct {
	Dir      string            // need not exist
	Accepted map[string][]byte // what an earlier run accepted, by name of the file
	Logger   *slog.Logger      // required
	// Changed is called by Run with what the files say, whenever that has changed.
	// Required.
	Changed func(Set)
}

// Directory reads the policy files of a host: those named *.yaml or *.yml whose
// names do not begin with a dot.
type Directory struct {
	opts Options
	set  Set
}

// Open reads the files once and returns what they say.
func Open(o Options) (*Directory, Set) {
	d := &Directory{opts: o, set: Set{Accepted: o.Accepted}}
	d.read()
	return d, d.set
}

// Run follows the files until ctx ends, and returns nil then.
func (d *Directory) Run(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil { // of inotify's limits, most likely
		d.opts.Logger.Warn("policy files not watched: they are read again now and then", "dir", d.opts.Dir, "period", Period, "error", err)
		return d.follow(ctx, nil, func() {})
	}
	defer watcher.Close()
	return d.follow(ctx, d.notices(ctx, watcher), func() {
		_ = watcher.Add(d.opts.Dir) // one that does not exist is tried again
	})
}

// notices leaves a token for whatever w reports. An error means that something
// was missed.
func (d *Directory) notices(ctx context.Context, w *fsnotify.Watcher) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.Events:
			case err := <-w.Errors:
				if err != nil { // else w is closed
					d.opts.Logger.Warn("change of policy files missed: reading all", "dir", d.opts.Dir, "error", err)
				}
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// follow reads after each notice, and periodically. watch has the directory
// watched, also if it is being watched already, or was made anew.
func (d *Directory) follow(ctx context.Context, notice <-chan struct{}, watch func()) error {
	tick := time.NewTicker(Period)
	defer tick.Stop()
	watch()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-notice:
			calm.Wait(ctx, calm.Options{Changes: notice, Quiet: Quiet, Latest: Period})
		case <-tick.C:
			watch()
		}
		if d.read() {
			d.opts.Changed(d.set)
		}
	}
}

// read reports whether anything has changed.
func (d *Directory) read() bool {
	found, err := list(d.opts.Dir)
	if err != nil {
		found = asFound(d.set.Accepted)
	}
	next := Merge(d.opts.Dir, d.set.Accepted, found)
	if err != nil {
		next.Problems = append(next.Problems, Problem{Path: d.opts.Dir, Kept: true, Err: err})
	}
	changed := !equal(d.set, next)
	if changed {
		d.log(next)
	}
	d.set = next
	return changed
}

// asFound is what is found while nothing has changed.
func asFound(accepted map[string][]byte) map[string]Content {
	out := make(map[string]Content, len(accepted))
	for name, data := range accepted {
		out[name] = Content{Data: data}
	}
	return out
}

func equal(a, b Set) bool {
	return maps.EqualFunc(a.Accepted, b.Accepted, func(x, y []byte) bool { return string(x) == string(y) }) &&
		slices.EqualFunc(a.Problems, b.Problems, func(x, y Problem) bool { return x.Error() == y.Error() }) &&
		len(a.Policies) == len(b.Policies)
}

func (d *Directory) log(next Set) {
	for _, p := range next.Problems {
		d.opts.Logger.Error("policy file refused", "path", p.Path, "error", p)
	}
	d.opts.Logger.Info("policy files read", "dir", d.opts.Dir, "files", len(next.Accepted), "policies", len(next.Policies))
}

// list reads the files of a directory; none of one that does not exist.
func list(dir string) (map[string]Content, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make(map[string]Content)
	room := MaxTotal
	for _, e := range entries { // sorted
		if !isPolicy(e.Name()) {
			continue
		}
		c := readFile(filepath.Join(dir, e.Name()))
		if room -= len(c.Data); c.Err == nil && (room < 0 || len(out) >= MaxFiles) {
			c = Content{Err: fmt.Errorf("%s: more than %d files, or %d bytes together, are not read: put several policies into one file, or give them to the mesh", filepath.Join(dir, e.Name()), MaxFiles, MaxTotal)}
		}
		out[e.Name()] = c
	}
	return out, nil
}

func isPolicy(name string) bool {
	ext := filepath.Ext(name)
	return !strings.HasPrefix(name, ".") && (ext == ".yaml" || ext == ".yml")
}

// readFile reads a regular file, or what a symbolic link to one leads to. It does
// not wait for anybody who writes to a pipe.
func readFile(path string) Content {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Content{Err: err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return Content{Err: err}
	}
	data, err := io.ReadAll(io.LimitReader(f, policy.MaxFileSize+1)) // Parse refuses what is longer
	return Content{Data: data, Err: err}
}
