package trial

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/state"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is a moment of a boot that began at noon with the clock set right.
func at(boot string, up time.Duration) Moment {
	return Moment{Wall: noon.Add(up), Boot: boot, Up: up}
}

func pending(number uint64) state.Revision {
	return state.Revision{Number: number, Time: noon, Window: time.Minute}
}

func confirmed(number uint64) state.Revision { return state.Revision{Number: number, Time: noon} }

func TestJudge(t *testing.T) {
	seen := &Trial{Revision: 7, Written: noon, Seen: at("a", time.Hour)}
	lapsed := &Trial{Revision: 7, Written: noon, Seen: at("a", time.Hour), Lapsed: true}
	wrongClock := Moment{Wall: noon.AddDate(-50, 0, 0), Boot: "b", Up: 20 * time.Second}
	tests := []struct {
		name  string
		known *Trial
		r     state.Revision
		now   Moment
		want  Outcome
	}{
		{"no revision yet", nil, state.Revision{}, at("a", 0), Outcome{}},
		{"not on trial", nil, confirmed(7), at("a", 0), Outcome{}},
		{"first sight", nil, pending(7), at("a", time.Hour), Outcome{Trial: seen, Left: time.Minute}},
		{"within the window", seen, pending(7), at("a", time.Hour+20*time.Second), Outcome{Trial: seen, Left: 40 * time.Second}},
		{"at the deadline", seen, pending(7), at("a", time.Hour+time.Minute), Outcome{Trial: lapsed, Lapsed: 7}},
		{"long after it", seen, pending(7), at("a", 90*time.Hour), Outcome{Trial: lapsed, Lapsed: 7}},
		{"the wall clock is set while it runs", seen, pending(7),
			Moment{Wall: noon.AddDate(3, 0, 0), Boot: "a", Up: time.Hour + 20*time.Second}, Outcome{Trial: seen, Left: 40 * time.Second}},
		{"after a reboot within the window", seen, pending(7),
			Moment{Wall: noon.Add(time.Hour + 50*time.Second), Boot: "b", Up: 5 * time.Second}, Outcome{Trial: seen, Left: 10 * time.Second}},
		{"after a reboot past the window", seen, pending(7),
			Moment{Wall: noon.Add(2 * time.Hour), Boot: "b", Up: 5 * time.Second}, Outcome{Trial: lapsed, Lapsed: 7}},
		{"after a reboot without a clock", seen, pending(7), wrongClock, Outcome{Trial: seen, Left: 40 * time.Second}},
		{"lapsed, and the clock is put back", lapsed, pending(7), wrongClock, Outcome{Trial: lapsed, Lapsed: 7}},
		{"confirmed in time", seen, confirmed(7), at("a", time.Hour+time.Second), Outcome{}},
		{"confirmed too late is confirmed", lapsed, confirmed(7), at("a", 2*time.Hour), Outcome{}},
		{"taken back by a new revision", seen, confirmed(8), at("a", time.Hour+time.Second), Outcome{}},
		{"followed by another trial", lapsed, pending(8), at("a", 2*time.Hour),
			Outcome{Trial: &Trial{Revision: 8, Written: noon, Seen: at("a", 2*time.Hour)}, Left: time.Minute}},
		{"an etcd that was built anew uses the number again", lapsed,
			state.Revision{Number: 7, Time: noon.Add(time.Hour), Window: time.Minute}, at("a", 2*time.Hour),
			Outcome{Trial: &Trial{Revision: 7, Written: noon.Add(time.Hour), Seen: at("a", 2*time.Hour)}, Left: time.Minute}},
		{"the snapshot is older than the trial", lapsed, confirmed(6), at("a", 2*time.Hour), Outcome{Trial: lapsed}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Judge(tt.known, tt.r, tt.now)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// What is remembered on disk counts like what is remembered in memory, to the
// nanosecond, whatever zone the times were written in.
func TestATrialIsTheSameAfterARestart(t *testing.T) {
	r := pending(7)
	r.Time = time.Date(2026, 3, 1, 14, 0, 0, 123456789, time.FixedZone("EET", 7200))
	first := Judge(nil, r, at("a", time.Hour+7))
	text, err := json.Marshal(first.Trial)
	if err != nil {
		t.Fatal(err)
	}
	var read Trial
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	r.Time = r.Time.UTC()
	if got := Judge(&read, r, at("a", time.Hour+7+10*time.Second)); got.Left != 50*time.Second {
		t.Errorf("%v left after a restart, want what was left before", got.Left)
	}
}
