package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
)

// fakeTables are as full as they are told.
type fakeTables struct {
	mu         sync.Mutex
	swept      bpfmap.Swept
	rest       []datapath.Fill
	turnedAway uint64
	err        error
	sweeps     []time.Duration // since the epoch of the test
	counts     int
	epoch      time.Time
}

func (f *fakeTables) Sweep(pause func() error) (bpfmap.Swept, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweeps = append(f.sweeps, time.Since(f.epoch))
	return f.swept, f.err
}

func (f *fakeTables) TurnedAway() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turnedAway, nil
}

func (f *fakeTables) Fills() ([]datapath.Fill, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts++
	return f.rest, nil
}

// fill makes the table of open flows so full, in percent.
func (f *fakeTables) fill(share int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.swept = bpfmap.Swept{
		Open:      datapath.Fill{Table: datapath.TableOpen, Used: share * 10, Max: 1000},
		Opening:   datapath.Fill{Table: datapath.TableOpening, Max: 100},
		Fragments: datapath.Fill{Table: datapath.TableFragments, Max: 100},
	}
}

func (f *fakeTables) turnAway(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turnedAway += n
}

// startSweeper runs a sweeper, whose log it returns, until the end of the test.
func startSweeper(t *testing.T, f *fakeTables) (*sweeper, *bytes.Buffer) {
	t.Helper()
	f.epoch = time.Now()
	var log bytes.Buffer
	s := &sweeper{tables: f, logger: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return s, &log
}

func TestSweepsTheMoreOftenTheFuller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeTables{}
		f.fill(49)
		startSweeper(t, f)
		f.fill(50)
		settled(30 * time.Second)
		f.fill(80)
		settled(10 * time.Second)
		f.fill(10)
		settled(5 * time.Second)
		settled(30 * time.Second)
		want := []time.Duration{0, 30 * time.Second, 40 * time.Second, 45 * time.Second, 75 * time.Second}
		if diff := cmp.Diff(want, f.sweeps); diff != "" {
			t.Errorf("sweeps (-want +got):\n%s", diff)
		}
		if f.counts != 1 {
			t.Errorf("tables that hardly change were counted %d times within two minutes", f.counts)
		}
	})
}

func TestSweepGoesOnAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeTables{err: errors.New("no such map")}
		s, log := startSweeper(t, f)
		if !strings.Contains(log.String(), "no such map") || len(s.look().all()) != 0 {
			t.Errorf("log %q, known %+v", log, s.look())
		}
		f.mu.Lock()
		f.err = nil
		f.mu.Unlock()
		f.fill(10)
		settled(30 * time.Second)
		if got := s.look().all(); len(got) == 0 || got[0].Used != 100 {
			t.Errorf("known after the error: %+v", got)
		}
	})
}

// TestPressureIsTold fills tables, and has flows find no room.
func TestPressureIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeTables{turnedAway: 7, rest: []datapath.Fill{{Table: datapath.TablePinholes, Used: 4096, Max: 4096}}}
		f.fill(79)
		s, log := startSweeper(t, f)
		warned := func() string {
			var out []string
			for _, w := range s.look().pressureWarnings() {
				out = append(out, w.Code+" "+w.Text)
			}
			return strings.Join(out, "\n")
		}
		full := "the table of pinholes has 4096 of 4096 entries (100%): it is full: further ones stay shut; let failsafe name fewer prefixes"
		if got := warned(); got != "map-pressure "+full {
			t.Errorf("at 79%%: %s", got)
		}
		for _, tt := range []struct {
			share, turned int
			want          string
		}{
			{80, 0, "800 of 1000 entries (80%): once it is full, new flows stay among those that are opening, where a flood can make them forgotten; raise conntrack.size"},
			{99, 0, "(99%): once it is full"},
			{100, 0, "(100%): it is full: new flows"},
			{79, 5, "(79%): it is full: new flows"},
		} {
			f.fill(tt.share)
			f.turnAway(uint64(tt.turned))
			settled(30 * time.Second)
			if got := warned(); !strings.Contains(got, tt.want) {
				t.Errorf("at %d%%, %d turned away: %s; want %q", tt.share, tt.turned, got, tt.want)
			}
		}
		settled(lingers)
		if got := warned(); strings.Contains(got, "open flows") {
			t.Errorf("with room again: %s", got)
		}
		if n := strings.Count(log.String(), `table="open flows"`); n != 2 {
			t.Errorf("logged %d times that it is crowded and full, want once each:\n%s", n, log)
		}
	})
}

func TestEveryTableHasALimit(t *testing.T) {
	for _, name := range []string{datapath.TableOpen, datapath.TableOpening, datapath.TableFragments, datapath.TableVerdicts,
		datapath.TablePrefixes, datapath.TableAddresses, datapath.TablePinholes, datapath.TableExemptions} {
		if l := limits[name]; l.then == "" || l.remedy == "" {
			t.Errorf("nothing is said of a full table of %s", name)
		}
	}
}

func TestTablesAreListed(t *testing.T) {
	s := &sweeper{load: load{turnedAway: 3, flows: []datapath.Fill{{Table: datapath.TableOpen, Used: 1, Max: 2}},
		rest: []datapath.Fill{{Table: datapath.TablePinholes, Max: 4096}}}}
	a := &agent{now: &session{member: &member{sweeper: s}}}
	got, err := a.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []api.TableEntry{
		{Table: "open flows", Used: 1, Max: 2, WhenFull: limits["open flows"].then, TurnedAway: 3},
		{Table: "pinholes", Max: 4096, WhenFull: limits["pinholes"].then},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
}
