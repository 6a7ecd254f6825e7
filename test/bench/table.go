package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// result is one line of the table.
type result struct {
	What     string  `json:"what"`
	Target   string  `json:"target,omitempty"`
	Measured string  `json:"measured"`
	Met      verdict `json:"met"`
}

type verdict string

const (
	met    verdict = "ok"
	missed verdict = "MISSED"
	noGoal verdict = "-" // for information
)

func when(ok bool) verdict {
	if ok {
		return met
	}
	return missed
}

func printTable(w io.Writer, results []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "WHAT\tTARGET\tMEASURED\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.What, r.Target, r.Measured, r.Met)
	}
	return t.Flush()
}

// spread is the median, the least and the greatest of some samples.
type spread[T int64 | float64 | time.Duration] struct{ median, least, most T }

func spreadOf[T int64 | float64 | time.Duration](samples []T) spread[T] {
	s := slices.Sorted(slices.Values(samples))
	return spread[T]{median: s[len(s)/2], least: s[0], most: s[len(s)-1]}
}

// latency is a line about times of which the median counts.
func latency(what string, target time.Duration, samples []time.Duration) result {
	s := spreadOf(samples)
	const ms = time.Millisecond
	return result{
		What: what, Target: fmt.Sprintf("< %v", target), Met: when(s.median < target),
		Measured: fmt.Sprintf("%v (%v to %v, %d times)", s.median.Round(ms), s.least.Round(ms), s.most.Round(ms), len(samples)),
	}
}
