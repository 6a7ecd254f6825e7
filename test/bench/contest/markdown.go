package contest

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/plexusmesh/plexus/test/bench/chart"
)

// Markdown prints the tables for a document.
func (r Report) Markdown(w io.Writer) {
	for _, t := range r.Tables {
		t.markdown(w, r.Rounds)
	}
	if len(r.Packets) == 0 {
		return
	}
	fmt.Fprint(w, "**Cost of a packet** (`BPF_PROG_TEST_RUN`): nanoseconds above an empty program in the same run, and in brackets what the empty one takes\n\n")
	for _, k := range kinds {
		fmt.Fprintf(w, "%s; looked for in: %s\n\n| program | packet | ns above empty |\n|---|---|---|\n", k.way, k.lookups)
		for _, p := range r.Packets {
			if p.Kind == k.name {
				fmt.Fprintf(w, "| `%s` | %s | %.0f (%.0f) |\n", p.Program, p.Case, p.Above, p.Empty)
			}
		}
		fmt.Fprintln(w)
	}
}

func (t Table) markdown(w io.Writer, rounds int) {
	fmt.Fprintf(w, "**%s**: median of %d rounds, and in brackets what the middle half of them lies between\n\n", t.Title, rounds)
	fmt.Fprintf(w, "| filter | rules | %s | ratio to no programs |\n|---|---|---|---|\n", t.Unit)
	for _, row := range t.Rows {
		rules := ""
		if row.Rules > 0 {
			rules = strconv.Itoa(row.Rules)
		}
		fmt.Fprintf(w, "| %s | %s | %.0f (%.0f to %.0f) | %.3f (%.3f to %.3f) |\n", row.Filter, rules,
			row.Rate.Median, row.Rate.Low, row.Rate.High, row.Ratio.Median, row.Ratio.Low, row.Ratio.High)
	}
	fmt.Fprintln(w)
}

// Plottable reports whether there is something to plot.
func (r Report) Plottable() bool { return r.udp() >= 0 }

// Plot draws packets per second against rules.
func (r Report) Plot(w io.Writer) error {
	if i := r.udp(); i >= 0 {
		return r.Tables[i].chart().SVG(w)
	}
	return fmt.Errorf("draw packets per second: %s was not measured", udpLoad)
}

// udp returns the place of the table of UDP, -1 without one.
func (r Report) udp() int {
	return slices.IndexFunc(r.Tables, func(t Table) bool { return t.Load == udpLoad })
}

func (t Table) chart() chart.Chart {
	c := chart.Chart{Title: t.Title + ", between two hosts", X: "rules", Y: t.Unit}
	for _, name := range []string{bare, ours, sets, flat} {
		c.Lines = append(c.Lines, t.line(name))
	}
	return c
}

// line is a filter. One without rules is as fast with any number of them.
func (t Table) line(filter string) chart.Line {
	l := chart.Line{Name: filter}
	for _, row := range t.Rows {
		if row.Filter != filter {
			continue
		}
		counts := []int{row.Rules}
		if row.Rules == 0 {
			counts = ruleCounts
		}
		for _, n := range counts {
			l.Points = append(l.Points, chart.Point{X: float64(n), Y: row.Rate.Median, Low: row.Rate.Low, High: row.Rate.High})
		}
	}
	return l
}
