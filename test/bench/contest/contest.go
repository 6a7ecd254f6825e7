package contest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/test/bench/traffic"
)

// Options say what to measure.
type Options struct {
	Rounds int       // of each load; 0 for 61
	Loads  []string  // only these, by name; none for all
	Tests  string    // the tests of datapath/loader, built; "" not to measure single packets
	Log    io.Writer // told what is measured now; required
}

const (
	defaultRounds = 61
	udpLoad       = "udp"
)

// contest is one kind of load, which all filters get in turn.
type contest struct {
	name  string
	title string
	unit  string
	scale float64 // of what a load counts, to the unit
	goal  float64 // least ratio to the bare wire
	ahead bool    // whether Plexus must also be ahead of nftables with a set, at every rule count
	open  func(traffic.Path) (traffic.Load, error)
}

var contests = []contest{
	{udpLoad, "UDP, 64-byte packets", "packets/s", 1, 0.93, true, func(p traffic.Path) (traffic.Load, error) { return traffic.NewUDP(p) }},
	{"stream", "TCP stream", "Mbit/s", 8e-6, 0.95, false, func(p traffic.Path) (traffic.Load, error) { return traffic.NewStream(p) }},
	{"connections", "new TCP connections", "connections/s", 1, 0.90, true, func(p traffic.Path) (traffic.Load, error) { return traffic.NewConnections(p) }},
}

// span of one measurement: short, so that those that are compared lie close
// together.
var span = traffic.Span{Warm: 5 * time.Millisecond, Count: 25 * time.Millisecond}

// Run measures. It needs root.
func Run(ctx context.Context, opts Options) (_ Report, err error) {
	chosen, err := choose(opts.Loads)
	if err != nil {
		return Report{}, err
	}
	if opts.Rounds == 0 {
		opts.Rounds = defaultRounds
	}
	// Threads that make load keep their place in Go's scheduler while the kernel has
	// them. There must be places for the rest.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(32))
	f, err := newField(ctx)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	report := Report{Rounds: opts.Rounds}
	if opts.Tests != "" {
		fmt.Fprintln(opts.Log, "measuring single packets")
		if report.Packets, err = packets(ctx, opts.Tests); err != nil {
			return Report{}, err
		}
	}
	for _, c := range chosen {
		fmt.Fprintf(opts.Log, "measuring %s\n", c.title)
		rates, err := f.run(ctx, c, opts.Rounds)
		if err != nil {
			return Report{}, err
		}
		report.Tables = append(report.Tables, c.table(f.lanes, rates))
	}
	return report, nil
}

func choose(names []string) ([]contest, error) {
	if len(names) == 0 {
		return contests, nil
	}
	var out []contest
	for _, name := range names {
		n := len(out)
		for _, c := range contests {
			if c.name == name {
				out = append(out, c)
			}
		}
		if len(out) == n {
			return nil, fmt.Errorf("choose load %q: it is none of udp, stream, connections", name)
		}
	}
	return out, nil
}

// run has every lane measured once in a round, each round in another order. The
// orders are the same in every run.
func (f *field) run(ctx context.Context, c contest, rounds int) (rates [][]float64, err error) {
	loads := make([]traffic.Load, len(f.lanes))
	for i, n := range f.lanes {
		if loads[i], err = c.open(n.path()); err != nil {
			return nil, fmt.Errorf("start %s through %s: %w", c.title, n, err)
		}
		defer func() { err = errors.Join(err, loads[i].Close()) }()
	}
	rates = make([][]float64, len(loads))
	order := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		for _, i := range order.Perm(len(loads)) {
			r, err := loads[i].Measure(span)
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return nil, fmt.Errorf("measure %s through %s: %w", c.title, f.lanes[i], err)
			}
			rates[i] = append(rates[i], r*c.scale)
		}
	}
	return rates, nil
}

// table compares every lane with the mean of both that filter nothing, round for
// round.
func (c contest) table(lanes []*lane, rates [][]float64) Table {
	t := Table{Load: c.name, Title: c.title, Unit: c.unit, Goal: c.goal, Ahead: c.ahead}
	for i, n := range lanes {
		ratios := make([]float64, len(rates[i]))
		for round, r := range rates[i] {
			ratios[round] = r / ((rates[0][round] + rates[1][round]) / 2)
		}
		t.Rows = append(t.Rows, Row{Filter: n.name, Rules: n.rules, Rate: spreadOf(rates[i]), Ratio: spreadOf(ratios)})
	}
	return t
}

func (n *lane) String() string {
	if n.rules == 0 {
		return n.name
	}
	return strings.Join([]string{n.name, fmt.Sprintf("%d rules", n.rules)}, ", ")
}
