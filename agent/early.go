package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/plan"
)

// early keeps the early stage of the datapath attached while policy denies some
// prefix, or strangers have a limit. It is for speed alone: where it cannot be, nothing is lost, and nothing
// fails.
type early struct {
	off     bool // by configuration
	limited bool // strangers are, by configuration
	logger  *slog.Logger
	open    func() (earlyStage, error)
	prune   func(keep []datapath.Link) error // detaches, also what an earlier run left

	mu      sync.Mutex
	stage   earlyStage // nil while there is nothing to do
	broken  error      // why this kernel does not take it
	denied  int        // prefixes
	without map[string]string
}

// earlyStage is what early uses of loader.Early.
type earlyStage interface {
	Ensure([]datapath.Link) map[string]error
	Close() error
}

func (e *early) Name() string { return "early" }

// Ensure attaches the stage to the links of d, where there is something to drop.
func (e *early) Ensure(_ context.Context, d plan.Desired) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.denied = 0
	if !e.off {
		e.denied = len(plan.DeniedPrefixes(d.Verdicts))
	}
	if !e.wantedLocked() {
		e.noteLocked(nil)
		return nil
	}
	e.openLocked()
	if e.broken != nil {
		e.noteLocked(everyLink(d.Links, e.broken))
		return nil
	}
	e.noteLocked(e.stage.Ensure(d.Links))
	return nil
}

// wantedLocked reports whether there is something to drop.
func (e *early) wantedLocked() bool { return !e.off && (e.limited || e.denied > 0) }

func (e *early) openLocked() {
	if e.stage != nil || e.broken != nil {
		return
	}
	if stage, err := e.open(); err != nil {
		e.broken = err
	} else {
		e.stage = stage
	}
}

// everyLink says of each managed interface that it does without because of err.
func everyLink(links []datapath.Link, err error) map[string]error {
	out := make(map[string]error)
	for _, l := range links {
		if !l.Tunnel {
			out[l.Name] = err
		}
	}
	return out
}

// noteLocked keeps which links do without, and logs what has changed.
func (e *early) noteLocked(without map[string]error) {
	now := make(map[string]string)
	for name, err := range without {
		now[name] = err.Error()
		if e.without[name] != now[name] {
			e.logger.Info("what is dropped early elsewhere is dropped by the programs for traffic control alone", "interface", name, "error", err)
		}
	}
	e.without = now
}

// Prune detaches the stage where it has nothing to do any more. It comes before
// links are pruned: see loader.PruneEarly.
func (e *early) Prune(_ context.Context, d plan.Desired, _ bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wantedLocked() {
		return e.prune(d.Links)
	}
	return errors.Join(e.prune(nil), e.closeLocked())
}

// Close ends the stage and leaves it attached, as everything else.
func (e *early) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closeLocked()
}

func (e *early) closeLocked() error {
	if e.stage == nil {
		return nil
	}
	err := e.stage.Close()
	e.stage = nil
	if err != nil {
		return fmt.Errorf("close the early stage: %w", err)
	}
	return nil
}

// status is nil while there is nothing to drop early.
func (e *early) status() *api.EarlyDrop {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.wantedLocked() {
		return nil
	}
	out := &api.EarlyDrop{Prefixes: e.denied}
	for _, name := range slices.SortedFunc(maps.Keys(e.without), strings.Compare) {
		out.Without = append(out.Without, api.Without{Interface: name, Reason: e.without[name]})
	}
	return out
}

// earlyDrop says how the early stage stands and what it has done.
func (k *kernel) earlyDrop() *api.EarlyDrop {
	out := k.early.status()
	if out == nil {
		return nil
	}
	if links, err := k.programs.ListEarly(); err == nil {
		out.Interfaces = links
	}
	if dropped, reported, err := k.maps.Counters.Early(); err == nil {
		out.Dropped, out.Unreported = dropped, dropped-reported
	}
	return out
}
