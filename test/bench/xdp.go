package main

import (
	"context"
	"fmt"

	"github.com/plexusmesh/plexus/test/bench/flood"
)

// earlyGoal is how many times as many packets are to be dropped by XDP as by the
// programs for traffic control.
const earlyGoal = 2.0

// floods compares neighbours.
func floods(ctx context.Context) ([]result, error) {
	families, err := flood.Run(ctx)
	var out []result
	for _, f := range families {
		ratios := make([]float64, len(f.Late))
		for i := range ratios {
			ratios[i] = f.Early[i] / f.Late[i]
		}
		r := spreadOf(ratios)
		out = append(out, result{
			What: "packets dropped by XDP to traffic control, " + f.Family, Target: fmt.Sprintf(">= %.1f", earlyGoal),
			Measured: fmt.Sprintf("%.2f (%.2f to %.2f, %d times)", r.median, r.least, r.most, len(ratios)), Met: when(r.median >= earlyGoal),
		}, dropRate("  by XDP", f.Early), dropRate("  by traffic control", f.Late))
	}
	return out, err
}

func dropRate(what string, samples []float64) result {
	const mega = 1e6
	s := spreadOf(samples)
	return result{What: what, Measured: fmt.Sprintf("%.2f M packets/s (%.2f to %.2f)", s.median/mega, s.least/mega, s.most/mega), Met: noGoal}
}
