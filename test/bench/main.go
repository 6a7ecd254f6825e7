package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/test/bench/contest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run, args := measure, os.Args[1:]
	if len(args) > 0 && args[0] == "probe" {
		run, args = probe, args[1:]
	}
	if err := run(ctx, args); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are those of the command line.
type options struct {
	quick  bool
	output string
	loads  string
	tests  string
	plot   string
	parts  []string // none for all
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("plexus-bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "a third of the rounds of datapath: enough to see a large change")
	f.StringVar(&o.output, "o", "text", "what to print: text, or json")
	f.StringVar(&o.loads, "load", "", "only these loads of datapath: udp,stream,connections")
	f.StringVar(&o.tests, "tests", "bin/loader.test", "the tests of datapath/loader, built: go test -c -o bin/loader.test ./datapath/loader")
	f.StringVar(&o.plot, "plot", "bin/performance.svg", "where to draw packets per second against rules, as SVG, if they are measured; \"\" for nowhere")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "usage: plexus-bench [flags] [joins|policy|throughput|memory|changes|datapath|early]...\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.parts = f.Args()
	for _, name := range o.parts {
		if name != "datapath" && name != "early" && !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return o, fmt.Errorf("measure %q: there is no such measurement: see plexus-bench -h", name)
		}
	}
	if o.output != "text" && o.output != "json" {
		return o, fmt.Errorf("print as %q: want text or json", o.output)
	}
	return o, nil
}

func (o options) wants(part string) bool { return len(o.parts) == 0 || slices.Contains(o.parts, part) }

// part is a measurement on whole daemons.
type part struct {
	name string
	run  func(context.Context, *mesh) ([]result, error)
}

// parts are in order, memory late: by then the daemons have done some work, and
// not yet filled their memory of flows.
var parts = []part{{"joins", joins}, {"policy", applies}, {"throughput", throughput}, {"memory", memory}, {"changes", changes}}

// measure makes the named measurements, or all.
func measure(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	results, err := onMesh(ctx, o)
	if err != nil {
		return err
	}
	var report contest.Report
	if o.wants("datapath") {
		if report, err = side(ctx, o); err != nil {
			return err
		}
		for _, c := range report.Checks() {
			results = append(results, result{c.What, c.Target, c.Measured, when(c.Met)})
		}
	}
	if o.wants("early") {
		fmt.Fprintln(os.Stderr, "measuring early")
		drops, err := floods(ctx)
		if err != nil {
			return err
		}
		results = append(results, drops...)
	}
	if err := o.draw(report); err != nil {
		return err
	}
	if o.output == "json" {
		return json.NewEncoder(os.Stdout).Encode(document{Results: results, Datapath: report})
	}
	report.Markdown(os.Stdout)
	return printTable(os.Stdout, results)
}

func (o options) draw(r contest.Report) (err error) {
	if o.plot == "" || !r.Plottable() {
		return nil
	}
	f, err := os.Create(o.plot)
	if err != nil {
		return fmt.Errorf("draw packets per second: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fmt.Fprintf(os.Stderr, "drawing %s\n", o.plot)
	return r.Plot(f)
}

// document is what -o json prints.
type document struct {
	Results  []result       `json:"results"`
	Datapath contest.Report `json:"datapath"`
}

// side has the datapath measured side by side with other filters.
func side(ctx context.Context, o options) (contest.Report, error) {
	opts := contest.Options{Log: os.Stderr, Tests: o.tests}
	if o.quick {
		opts.Rounds = 21
	}
	if o.loads != "" {
		opts.Loads, opts.Tests = strings.Split(o.loads, ","), ""
	}
	return contest.Run(ctx, opts)
}

// onMesh makes the measurements of whole daemons, on one mesh.
func onMesh(ctx context.Context, o options) (results []result, err error) {
	if !slices.ContainsFunc(parts, func(p part) bool { return o.wants(p.name) }) {
		return nil, nil
	}
	m, err := newMesh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := m.lab.Close(); err == nil {
			err = cerr
		}
	}()
	for _, p := range parts {
		if !o.wants(p.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", p.name)
		some, err := p.run(ctx, m)
		if err != nil {
			return nil, err
		}
		results = append(results, some...)
	}
	return results, nil
}
