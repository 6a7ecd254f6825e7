package trial

import (
	"time"

	"github.com/plexusmesh/plexus/state"
)

// Moment is a point in time as one host can tell it.
type Moment struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot"` // names the boot of the kernel (random(4), boot_id)
	Up   time.Duration `json:"up"`   // since that boot, sleep included (CLOCK_BOOTTIME), nanoseconds
}

// since returns how long ago was is. Within one boot nobody can move the clock
// that counts. After a reboot there is only the wall clock, which may be wrong:
// then it is no less than the time since the boot.
func (m Moment) since(was Moment) time.Duration {
	if m.Boot == was.Boot {
		return max(m.Up-was.Up, 0)
	}
	return max(m.Wall.Sub(was.Wall), m.Up)
}

// Trial is what a host remembers of a revision on trial.
type Trial struct {
	Revision uint64    `json:"revision"`
	Written  time.Time `json:"written"` // by the server: tells apart two revisions of one number, of an etcd that was built anew
	Seen     Moment    `json:"seen"`    // by this host, first
	Lapsed   bool      `json:"lapsed"`  // whether the window has closed here; it never opens again
}

// of reports whether t is the trial of r.
func (t Trial) of(r state.Revision) bool {
	return t.Revision == r.Number && t.Written.Equal(r.Time)
}

// Outcome says how a trial stands.
type Outcome struct {
	Trial  *Trial        // to remember; nil for none
	Lapsed uint64        // the revision whose window has closed here; 0 for none
	Left   time.Duration // until the window closes; 0 while none is open
}

// Judge says how the trial of r, the newest revision that this host knows of,
// stands at now. known is what Judge last returned to remember, nil for nothing.
//
// A revision that is not on trial, or no longer, ends every trial but that of a
// later one: a host that restarts without etcd may have saved the trial and not
// yet the revision.
func Judge(known *Trial, r state.Revision, now Moment) Outcome {
	if !r.Pending() {
		if known != nil && known.Revision > r.Number {
			return Outcome{Trial: known}
		}
		return Outcome{}
	}
	t := Trial{Revision: r.Number, Written: r.Time, Seen: now}
	if known != nil && known.of(r) {
		t = *known
	}
	left := r.Window - now.since(t.Seen)
	if t.Lapsed = t.Lapsed || left <= 0; t.Lapsed {
		return Outcome{Trial: &t, Lapsed: t.Revision}
	}
	return Outcome{Trial: &t, Left: left}
}
