package contest

import (
	"fmt"
	"slices"
)

// Report is what a run found.
type Report struct {
	Rounds  int      `json:"rounds"`
	Tables  []Table  `json:"tables"`
	Packets []Packet `json:"packets"`
}

// Table is one load through all filters.
type Table struct {
	Load  string  `json:"load"`
	Title string  `json:"title"`
	Unit  string  `json:"unit"`
	Goal  float64 `json:"goal"`  // least ratio of Plexus
	Ahead bool    `json:"ahead"` // whether Plexus must be ahead of nftables with a set
	Rows  []Row   `json:"rows"`
}

// Row is one filter with one number of rules.
type Row struct {
	Filter string `json:"filter"`
	Rules  int    `json:"rules"` // 0 where there is no policy
	Rate   Spread `json:"rate"`  // in the table's unit
	Ratio  Spread `json:"ratio"` // to no programs, within a round
}

// Spread is the median of some samples, and the quarters below and above which it
// lies.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`  // a quarter of the samples is below
	High   float64 `json:"high"` // a quarter is above
}

func spreadOf(samples []float64) Spread {
	s := slices.Sorted(slices.Values(samples))
	at := func(p int) float64 { return s[(len(s)-1)*p/100] }
	return Spread{Median: at(50), Low: at(25), High: at(75)}
}

// Check is one target.
type Check struct {
	What, Target, Measured string
	Met                    bool
}

// Checks compares what was found with the targets.
func (r Report) Checks() []Check {
	var out []Check
	for _, t := range r.Tables {
		out = append(out, t.checks()...)
	}
	return append(out, r.packetCheck()...)
}

func (t Table) checks() (out []Check) {
	for _, row := range t.Rows {
		if row.Filter != ours {
			continue
		}
		what := fmt.Sprintf("%s, %d rules", t.Title, row.Rules)
		out = append(out, Check{what + ", to no programs", fmt.Sprintf(">= %.2f", t.Goal), fmt.Sprintf("%.3f", row.Ratio.Median), row.Ratio.Median >= t.Goal})
		if rival, ok := t.row(sets, row.Rules); ok && t.Ahead {
			ratio := row.Ratio.Median / rival.Ratio.Median
			out = append(out, Check{what + ", to " + sets, "> 1", fmt.Sprintf("%.3f", ratio), ratio > 1})
		}
	}
	return append(out, t.flatness()...)
}

// flatGoal is how much of its rate with the fewest rules Plexus keeps with the most.
const flatGoal = 0.97

// flatness compares the greatest number of rules with the least, where Plexus must
// be ahead of a filter that is flat itself.
func (t Table) flatness() []Check {
	few, found := t.row(ours, slices.Min(ruleCounts))
	many, foundToo := t.row(ours, slices.Max(ruleCounts))
	if !t.Ahead || !found || !foundToo {
		return nil
	}
	ratio := many.Ratio.Median / few.Ratio.Median
	return []Check{{fmt.Sprintf("%s, %d rules to %d", t.Title, many.Rules, few.Rules), fmt.Sprintf(">= %.2f", flatGoal), fmt.Sprintf("%.3f", ratio), ratio >= flatGoal}}
}

func (t Table) row(filter string, rules int) (Row, bool) {
	i := slices.IndexFunc(t.Rows, func(r Row) bool { return r.Filter == filter && r.Rules == rules })
	if i < 0 {
		return Row{}, false
	}
	return t.Rows[i], true
}
