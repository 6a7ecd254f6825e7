package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// runAll makes the images, boots the machines and judges what they report.
func runAll(ctx context.Context, o options) error {
	chosen, err := choose(o.kernels, releases, func(r release) string { return r.kernel })
	if err != nil {
		return err
	}
	tests, err := choose(o.packages, packages, func(p string) string { return p })
	if err != nil {
		return err
	}
	if o.update {
		tests, o.run = []string{loader}, "^"+loadTest+"$"
	}
	work, err := os.MkdirTemp("", "plexus-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	p, err := newPayload(ctx, work, tests, o.run)
	if err != nil {
		return err
	}
	res, err := newResults(ctx, os.Stdout)
	if err != nil {
		return err
	}
	err = bootAll(ctx, o, chosen, func(ctx context.Context, r release) error { return bootOne(ctx, r, p, res, o.dir) })
	err = errors.Join(err, res.close())
	return errors.Join(err, res.judge(o, chosen))
}

// bootAll runs one function for each release, several at once. One that fails
// stops no other.
func bootAll(ctx context.Context, o options, chosen []release, boot func(context.Context, release) error) error {
	var group errgroup.Group
	group.SetLimit(o.parallel)
	errs := make([]error, len(chosen))
	for i, r := range chosen {
		group.Go(func() error {
			errs[i] = boot(ctx, r)
			return nil
		})
	}
	_ = group.Wait() // its functions return none
	return errors.Join(errs...)
}

// bootOne runs the machine of one release, and prints what its kernel said when
// anything went wrong.
func bootOne(ctx context.Context, r release, p *payload, res *results, dir string) error {
	started := time.Now()
	img, err := r.build(ctx, dir)
	if err != nil {
		return err
	}
	m, err := newMachine(img, p, dir)
	if err != nil {
		return fmt.Errorf("prepare linux-%s: %w", r.kernel, err)
	}
	defer os.Remove(m.initrd)
	res.note("linux-%s: boots after %.0f s", r.kernel, time.Since(started).Seconds())
	events, err := os.Create(filepath.Join(dir, r.kernel+".events.json"))
	if err != nil {
		return err
	}
	defer events.Close()
	l := res.listen(r.kernel, p.jobs, events)
	err = errors.Join(m.run(ctx, l.line), l.close())
	res.note("linux-%s: ended after %.0f s", r.kernel, time.Since(started).Seconds())
	if err != nil {
		console, _ := os.ReadFile(m.console)
		res.note("linux-%s: %v; its console said:\n%s", r.kernel, err, console)
		return fmt.Errorf("linux-%s: %w", r.kernel, err)
	}
	return nil
}

// judge prints the table of instructions, and compares it with the budget or
// writes it there. Tests that were chosen by hand need not measure anything.
func (r *results) judge(o options, chosen []release) error {
	budget, err := readBudget(budgetFile)
	if err != nil {
		return err
	}
	var kernels []string
	for _, c := range chosen {
		kernels = append(kernels, c.kernel)
	}
	if err := printCounts(r.out, kernels, budget, r.measured); err != nil {
		return err
	}
	if o.update {
		return r.write(kernels, budget)
	}
	if o.run != "" || o.packages != "" {
		return nil
	}
	var errs []error
	for _, k := range kernels {
		errs = append(errs, compare(k, budget[k], r.measured[k]))
	}
	return errors.Join(errs...)
}

// write refuses to forget a kernel that did not get as far as to load programs.
func (r *results) write(kernels []string, budget counts) error {
	for _, k := range kernels {
		if len(r.measured[k]) == 0 {
			return fmt.Errorf("update %s: nothing was measured on %s", budgetFile, k)
		}
	}
	return writeBudget(budgetFile, budget, r.measured)
}
