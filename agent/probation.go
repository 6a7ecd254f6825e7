package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/internal/round"
	"github.com/plexusmesh/plexus/state"
)

// trialFile remembers when this host first saw the revision on trial.
func trialFile(stateDir string) string { return filepath.Join(stateDir, "policy-trial.json") }

// bootID names this boot of the kernel (random(4)).
const bootID = "/proc/sys/kernel/random/boot_id"

// now reads the clocks that a trial is measured with.
func now(boot string) trial.Moment {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) // fails for a bad address or an unknown clock alone
	return trial.Moment{Wall: time.Now(), Boot: boot, Up: time.Duration(up.Nano())}
}

// probation keeps the trial of the newest revision of the mesh's policies: what
// this host remembers of it, in memory and on disk.
type probation struct {
	path   string
	clock  func() trial.Moment
	logger *slog.Logger
	news   chan struct{} // holds one token while the file is to be written
	writes round.Round

	mu      sync.Mutex
	outcome trial.Outcome
	failed  error // why it is not on disk
}

// openProbation reads what an earlier run remembered. What cannot be read is
// logged and forgotten: then the window begins anew.
func openProbation(stateDir string, logger *slog.Logger) (*probation, error) {
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return nil, fmt.Errorf("tell this boot from others: %w", err)
	}
	p := &probation{
		path: trialFile(stateDir), logger: logger, news: make(chan struct{}, 1),
		clock: func() trial.Moment { return now(string(bytes.TrimSpace(boot))) },
	}
	if err := atomicfile.Sweep(p.path); err != nil {
		return nil, err
	}
	known, err := readJSON[trial.Trial](p.path)
	if err != nil {
		logger.Error("trial of a policy revision not remembered: its window begins anew", "path", p.path, "error", err)
	}
	p.outcome.Trial = known
	return p, nil
}

// readJSON reads what a file holds; nil for no file.
func readJSON[T any](path string) (*T, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &v, nil
}

// writeJSON replaces a file; nil removes it.
func writeJSON[T any](path string, v *T) error {
	if v == nil {
		return atomicfile.Remove(path)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(text, '\n'), 0o600)
}

// judge says how the trial of r stands now.
func (p *probation) judge(r state.Revision) trial.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.outcome
	p.outcome = trial.Judge(before.Trial, r, p.clock())
	if !sameTrial(before.Trial, p.outcome.Trial) {
		signal(p.news)
	}
	p.log(before, r)
	return p.outcome
}

func sameTrial(a, b *trial.Trial) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (p *probation) log(before trial.Outcome, r state.Revision) {
	was, is := before.Lapsed, p.outcome.Lapsed
	switch {
	case is != 0 && was != is:
		p.logger.Warn("policy revision taken back: nobody confirmed it in time", "revision", is, "author", r.Author, "window", r.Window)
	case was != 0 && is == 0 && r.Number == was:
		p.logger.Info("policy revision confirmed after its time: in force again", "revision", was)
	case p.outcome.Left > 0 && (before.Trial == nil || before.Trial.Revision != r.Number):
		p.logger.Warn("policy revision on trial: it is taken back unless it is confirmed", "revision", r.Number, "author", r.Author, "left", p.outcome.Left)
	}
}

// Run writes what is to be remembered, beside planning, so that a disk that hangs
// does not keep a window open. It returns nil when ctx ends.
func (p *probation) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.news:
		}
		if p.save() != nil {
			signal(p.news)
			select {
			case <-ctx.Done():
			case <-time.After(persistPause):
			}
		}
	}
}

// remember has the trial written at once. The channel is closed when Run has
// tried, whether it could or not.
func (p *probation) remember() <-chan struct{} {
	tried := p.writes.Ended()
	signal(p.news)
	return tried
}

func (p *probation) save() error {
	defer p.writes.Begin()()
	p.mu.Lock()
	known := p.outcome.Trial
	p.mu.Unlock()
	err := writeJSON(p.path, known)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.failed == nil {
		p.logger.Error("trial of a policy revision not on disk: a restart would begin its window anew", "error", err)
	}
	p.failed = err
	return err
}

// look says how the trial of r stands, and changes nothing.
func (p *probation) look(r state.Revision) trial.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	return trial.Judge(p.outcome.Trial, r, p.clock())
}

// warnings say that a revision is on trial here, or was taken back.
func (p *probation) warnings(r state.Revision) []api.Warning {
	var out []api.Warning
	add := func(code, text string) {
		out = append(out, api.Warning{Code: code, Severity: "warning", Text: text})
	}
	switch o := p.look(r); {
	case o.Lapsed != 0:
		add("policy-taken-back", fmt.Sprintf("nobody confirmed revision %d of the policies, by %s, within %s: what was before it is in force here, and the leading server takes it back for the whole mesh; apply the change again to have it after all",
			o.Lapsed, r.Author, r.Window))
	case o.Left > 0:
		add("policy-on-trial", fmt.Sprintf("revision %d of the policies, by %s, is on trial: %d s are left to confirm it with plexus policy confirm on a server, or it is taken back",
			r.Number, r.Author, int64(o.Left.Seconds())))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		add("trial-not-saved", fmt.Sprintf("when this host first saw the revision on trial is not on disk, and a restart would begin its window anew: make room for it: %v", p.failed))
	}
	return out
}
