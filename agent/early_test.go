package agent

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
)

// fakeEarly stands for the kernel.
type fakeEarly struct {
	attached []string
	refuse   map[string]error
	closed   int
}

func (f *fakeEarly) Ensure(links []datapath.Link) map[string]error {
	without := make(map[string]error)
	f.attached = nil
	for _, l := range links {
		if err := f.refuse[l.Name]; err != nil {
			without[l.Name] = err
		} else if !l.Tunnel {
			f.attached = append(f.attached, l.Name)
		}
	}
	return without
}

func (f *fakeEarly) Close() error { f.closed++; return nil }

func (f *fakeEarly) prune(keep []datapath.Link) error {
	if len(keep) == 0 {
		f.attached = nil
	}
	return nil
}

// denying is a host with two links that denies a prefix, or none.
func denying(some bool) plan.Desired {
	d := plan.Desired{Links: []datapath.Link{{Name: "plexus0", Tunnel: true}, {Name: "eth0"}, {Name: "wlan0"}}}
	if some {
		d.Verdicts = policy.Verdicts{
			Prefixes: map[netip.Prefix]mesh.Identity{netip.MustParsePrefix("192.0.2.0/24"): 1<<24 | 1},
			Entries:  map[policy.Key]policy.Entry{{Identity: 1<<24 | 1}: {Deny: true, Rule: 1}},
		}
	}
	return d
}

// apply has both halves of a pass run.
func (e *early) apply(t *testing.T, d plan.Desired) {
	t.Helper()
	if err := errors.Join(e.Ensure(t.Context(), d), e.Prune(t.Context(), d, true)); err != nil {
		t.Fatal(err)
	}
}

func TestEarlyDropIsThereWhileNeeded(t *testing.T) {
	f := &fakeEarly{refuse: map[string]error{"wlan0": errors.New("its driver does not run XDP")}}
	opened := 0
	e := &early{logger: slog.New(slog.DiscardHandler), prune: f.prune, open: func() (earlyStage, error) { opened++; return f, nil }}
	e.apply(t, denying(false))
	if opened != 0 || e.status() != nil {
		t.Errorf("opened %d times for nothing: %+v", opened, e.status())
	}
	for range 2 {
		e.apply(t, denying(true))
	}
	want := &api.EarlyDrop{Prefixes: 1, Without: []api.Without{{Interface: "wlan0", Reason: "its driver does not run XDP"}}}
	if diff := cmp.Diff(want, e.status()); diff != "" || opened != 1 || !cmp.Equal(f.attached, []string{"eth0"}) {
		t.Errorf("opened %d times, attached to %v (-want +got):\n%s", opened, f.attached, diff)
	}
	e.apply(t, denying(false))
	if f.closed != 1 || len(f.attached) != 0 || e.status() != nil {
		t.Errorf("closed %d times, attached to %v, status %+v; want it gone", f.closed, f.attached, e.status())
	}
}

func TestEarlyDropIsThereWithALimit(t *testing.T) {
	f := &fakeEarly{}
	e := &early{limited: true, logger: slog.New(slog.DiscardHandler), prune: f.prune, open: func() (earlyStage, error) { return f, nil }}
	e.apply(t, denying(false))
	if st := e.status(); st == nil || st.Prefixes != 0 || !cmp.Equal(f.attached, []string{"eth0", "wlan0"}) {
		t.Errorf("attached to %v; status %+v", f.attached, st)
	}
	e.off = true
	e.apply(t, denying(false))
	if e.status() != nil || f.attached != nil || f.closed != 1 {
		t.Errorf("switched off: attached to %v, closed %d times", f.attached, f.closed)
	}
}

func TestEarlyDropSwitchedOff(t *testing.T) {
	f := &fakeEarly{attached: []string{"eth0"}} // by an earlier run
	e := &early{off: true, logger: slog.New(slog.DiscardHandler), prune: f.prune, open: func() (earlyStage, error) {
		t.Error("opened although it is switched off")
		return f, nil
	}}
	e.apply(t, denying(true))
	if len(f.attached) != 0 || e.status() != nil {
		t.Errorf("attached to %v, status %+v", f.attached, e.status())
	}
}

func TestEarlyDropThatKernelRefuses(t *testing.T) {
	opened := 0
	e := &early{logger: slog.New(slog.DiscardHandler), prune: new(fakeEarly).prune, open: func() (earlyStage, error) {
		opened++
		return nil, errors.New("no XDP here")
	}}
	for range 2 {
		e.apply(t, denying(true))
	}
	want := &api.EarlyDrop{Prefixes: 1, Without: []api.Without{{Interface: "eth0", Reason: "no XDP here"}, {Interface: "wlan0", Reason: "no XDP here"}}}
	if diff := cmp.Diff(want, e.status()); diff != "" || opened != 1 {
		t.Errorf("opened %d times (-want +got):\n%s", opened, diff)
	}
}
