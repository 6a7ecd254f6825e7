package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
)

const (
	// sweepPause spreads a sweep: of 262144 flows, over about a second.
	sweepPause = 20 * time.Millisecond
	// countEvery is how often the tables are counted that change with the mesh and
	// its policy alone.
	countEvery = 2 * time.Minute
)

// tables is the part of the datapath's maps that the sweeper looks at.
type tables interface {
	Sweep(pause func() error) (bpfmap.Swept, error)
	TurnedAway() (uint64, error)
	Fills() ([]datapath.Fill, error)
}

// kernelTables are those of a loaded datapath.
type kernelTables struct{ *bpfmap.Maps }

func (k kernelTables) Sweep(pause func() error) (bpfmap.Swept, error) { return k.Flows.Sweep(pause) }

func (k kernelTables) TurnedAway() (uint64, error) { return k.Counters.TurnedAway() }

// sweeper removes flows that are over, and knows how full the tables are.
type sweeper struct {
	tables tables
	logger *slog.Logger

	counted time.Time // for Run alone

	mu   sync.Mutex
	load load
}

// load is what the last looks at the tables found.
type load struct {
	flows      []datapath.Fill // of open flows first; empty before the first look
	rest       []datapath.Fill // of what the agent fills
	turnedAway uint64          // packets of flows that found no room, ever
	turned     time.Time       // when a look found more of them than the one before
}

// Run sweeps until ctx ends, the more often the fuller the table of open flows is.
func (s *sweeper) Run(ctx context.Context) error {
	for {
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.logger.Warn("flows that are over not all removed: trying again", "error", err)
		}
		if wait(ctx, s.interval()) != nil {
			return nil
		}
	}
}

// interval returns how long to wait until the next sweep.
func (s *sweeper) interval() time.Duration {
	flows := s.look().flows
	switch {
	case len(flows) == 0 || flows[0].Share() < 50:
		return 30 * time.Second
	case flows[0].Share() < crowded:
		return 10 * time.Second
	}
	return 5 * time.Second
}

func (s *sweeper) sweep(ctx context.Context) error {
	swept, err := s.tables.Sweep(func() error { return wait(ctx, sweepPause) })
	if err != nil {
		return err
	}
	turnedAway, err := s.tables.TurnedAway()
	if err != nil {
		return err
	}
	rest, err := s.count()
	s.note(load{flows: []datapath.Fill{swept.Open, swept.Opening, swept.Fragments}, rest: rest, turnedAway: turnedAway})
	return err
}

// count returns how full the other tables are, nil for what it was before.
func (s *sweeper) count() ([]datapath.Fill, error) {
	if time.Since(s.counted) < countEvery {
		return nil, nil
	}
	fills, err := s.tables.Fills()
	if err != nil {
		return nil, err
	}
	s.counted = time.Now()
	return fills, nil
}

func (s *sweeper) note(now load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now.turned = s.load.turned
	if len(s.load.flows) > 0 && now.turnedAway > s.load.turnedAway {
		now.turned = time.Now()
	}
	if now.rest == nil {
		now.rest = s.load.rest
	}
	before := s.load
	s.load = now
	s.tell(before, now)
}

// tell logs each table that has become crowded or full.
func (s *sweeper) tell(before, now load) {
	had := make(map[string]int)
	for _, f := range before.all() {
		had[f.Table] = f.Share()
	}
	for _, f := range now.all() {
		if f.Share() >= crowded && had[f.Table] < crowded || f.Share() >= 100 && had[f.Table] < 100 {
			s.logger.Warn("table of the datapath is filling up", "table", f.Table, "used", f.Used, "limit", f.Max)
		}
	}
}

// look returns what the last looks found.
func (s *sweeper) look() load {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load
}

// wait returns after d, or with the error of ctx when that ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
