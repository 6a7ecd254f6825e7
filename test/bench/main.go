package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run, args := measure, os.Args[1:]
	if len(args) > 0 && args[0] == "probe" {
		run, args = probe, args[1:]
	}
	if err := run(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parts are the measurements, memory late: by then the daemons have done some
// work, and not yet filled their memory of flows.
var parts = []struct {
	name string
	run  func(context.Context, *mesh) ([]result, error)
}{{"joins", joins}, {"policy", applies}, {"throughput", throughput}, {"memory", memory}, {"changes", changes}}

// measure makes the named measurements, or all, on one mesh.
func measure(ctx context.Context, names []string) (err error) {
	m, err := newMesh(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := m.lab.Close(); err == nil {
			err = cerr
		}
	}()
	var results []result
	for _, part := range parts {
		if len(names) > 0 && !slices.Contains(names, part.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", part.name)
		some, err := part.run(ctx, m)
		if err != nil {
			return err
		}
		results = append(results, some...)
	}
	return printTable(os.Stdout, results)
}
