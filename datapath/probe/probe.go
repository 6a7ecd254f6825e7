package probe

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// State says whether something is there.
type State string

const (
	Present State = "present"
	Missing State = "missing"
	Unknown State = "unknown" // nobody could tell, for want of rights most likely
)

// AskAsRoot is the remedy for what only root can tell.
const AskAsRoot = "run this as root, which can tell"

// Probe is one thing that Plexus uses.
type Probe struct {
	Name string // in the plural or as a mass noun: "this kernel has no <Name>"
	// Required says that Plexus does not run without it. Where Unless is set, that
	// holds only where the probe of that name does not find its own.
	Required bool
	Unless   string
	Lost     string // what does not work without it
	Remedy   string
	// Ask tries it. Nil means present; an error that is errMissing means missing,
	// any other that it could not be told.
	Ask func() error
}

// Result is what became of a Probe. Names in JSON are a contract.
type Result struct {
	Name     string `json:"name"`
	State    State  `json:"state"`
	Required bool   `json:"required"`
	Lost     string `json:"lost"`   // without it; also where it is present
	Remedy   string `json:"remedy"` // what to do if it is missing
	Detail   string `json:"detail"` // what the kernel said; empty where it is present
}

// Options say what is looked at.
type Options struct {
	BPFRoot string // where programs are to be pinned; required
}

// List returns every probe, in the order in which people read them. A later part
// of Plexus adds a function to it.
func List(o Options) []Probe {
	var all []Probe
	for _, group := range [][]Probe{Programs(), attachments(), files(o), tunnels(), others()} {
		all = append(all, group...)
	}
	return all
}

// Run tries all of list.
func Run(list []Probe) []Result {
	out := make([]Result, 0, len(list))
	found := make(map[string]bool)
	for _, p := range list {
		r := Result{Name: p.Name, Required: p.Required, Lost: p.Lost, Remedy: p.Remedy, State: Present}
		if err := p.Ask(); err != nil {
			r.State, r.Detail = stateOf(err), err.Error()
		}
		if r.State == Unknown && os.Geteuid() != 0 {
			r.Remedy = AskAsRoot
		}
		found[p.Name] = r.State == Present
		out = append(out, r)
	}
	for i, p := range list {
		out[i].Required = p.Required && !(p.Unless != "" && found[p.Unless])
	}
	return out
}

// Verdict says what results come to.
type Verdict string

const (
	Ready    Verdict = "ready"    // everything is there
	Limited  Verdict = "limited"  // Plexus runs, or may run, and lacks something
	Unusable Verdict = "unusable" // it does not run
)

// Judge says what results come to.
func Judge(results []Result) Verdict {
	verdict := Ready
	for _, r := range results {
		switch {
		case r.State == Missing && r.Required:
			return Unusable
		case r.State != Present:
			verdict = Limited
		}
	}
	return verdict
}

// errMissing marks an error that says that something is not there.
var errMissing = errors.New("not there")

// Absent marks err, the answer to a Probe, as saying that something is not there,
// unless it is about the rights of who asks.
func Absent(err error) error {
	if err == nil || errors.Is(err, os.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: %w", errMissing, err)
}

func stateOf(err error) State {
	if errors.Is(err, errMissing) {
		return Missing
	}
	return Unknown
}

// Kernel returns the release of the running kernel, as uname(1) prints it.
func Kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}
