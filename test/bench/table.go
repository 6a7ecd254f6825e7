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
	what, target, measured string
	met                    verdict
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
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.what, r.target, r.measured, r.met)
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
		what: what, target: fmt.Sprintf("< %v", target), met: when(s.median < target),
		measured: fmt.Sprintf("%v (%v to %v, %d times)", s.median.Round(ms), s.least.Round(ms), s.most.Round(ms), len(samples)),
	}
}
