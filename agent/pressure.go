package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
)

// crowded is the share of a table, in percent, from which on a person should know.
const crowded = 80

// lingers is how long a table counts as full after it last was.
const lingers = 2 * time.Minute

// limit says what it means that a table of the datapath is full.
type limit struct {
	then   string // what happens to what comes next
	remedy string
}

// limits of the tables, by name; docs/limits.md says more.
var limits = map[string]limit{
	datapath.TableOpen:       {"new flows stay among those that are opening, where a flood can make them forgotten", "raise conntrack.size, which counts after plexusd cleanup or a reboot"},
	datapath.TableOpening:    {"those unanswered for longest are forgotten, and open flows are not touched", "this is what a flood looks like: plexus observe tells who sends it"},
	datapath.TableFragments:  {"the oldest are forgotten, and what is left of their packets is dropped", "plexus observe tells who sends packets in fragments"},
	datapath.TableVerdicts:   {"a larger policy is refused and the one before stays in force", "use fewer rules, wider port ranges or fewer selected peers"},
	datapath.TablePrefixes:   {"a larger policy is refused and the one before stays in force", "use fewer or wider prefixes"},
	datapath.TableAddresses:  {"further members and prefixes are strangers to policy", "use fewer or wider prefixes"},
	datapath.TablePinholes:   {"further ones stay shut", "let failsafe name fewer prefixes"},
	datapath.TableExemptions: {"WireGuard of further members does not get through", "split the mesh"},
}

// all are the tables, those of flows first.
func (l load) all() []datapath.Fill { return slices.Concat(l.flows, l.rest) }

// pressureWarnings tell of tables that are full or soon will be.
func (l load) pressureWarnings() []api.Warning {
	var out []api.Warning
	for _, f := range l.all() {
		full := f.Used >= f.Max || f.Table == datapath.TableOpen && time.Since(l.turned) < lingers
		if full || f.Share() >= crowded {
			out = append(out, api.Warning{Code: "map-pressure", Severity: "warning", Text: pressureText(f, full)})
		}
	}
	return out
}

func pressureText(f datapath.Fill, full bool) string {
	l, when := limits[f.Table], "once it is full, "
	if full {
		when = "it is full: "
	}
	return fmt.Sprintf("the table of %s has %d of %d entries (%d%%): %s%s; %s", f.Table, f.Used, f.Max, f.Share(), when, l.then, l.remedy)
}

// Tables lists the tables of the datapath with how full they are.
func (a *agent) Tables(context.Context) ([]api.TableEntry, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	now := m.sweeper.look()
	out := []api.TableEntry{}
	for _, f := range now.all() {
		e := api.TableEntry{Table: f.Table, Used: f.Used, Max: f.Max, WhenFull: limits[f.Table].then}
		if f.Table == datapath.TableOpen {
			e.TurnedAway = now.turnedAway
		}
		out = append(out, e)
	}
	return out, nil
}
