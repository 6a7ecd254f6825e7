package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

// options are the flags.
type options struct {
	kernels  string // names of kernels, with commas; all if empty
	run      string // what tests to run, as for go test
	packages string // what packages to test, with commas; all if empty
	update   bool   // write the budget instead of comparing
	dir      string // for images and logs
	parallel int    // machines at once
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := runAll(ctx, flags()); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

func flags() options {
	var o options
	flag.StringVar(&o.kernels, "kernels", "", "kernels to boot, such as 5.10,6.12; all if empty")
	flag.StringVar(&o.run, "run", "", "tests to run, as for go test")
	flag.StringVar(&o.packages, "packages", "", "packages to test, such as datapath/loader; all if empty")
	flag.BoolVar(&o.update, "update", false, "write what the verifier looked at into the budget")
	flag.StringVar(&o.dir, "dir", "bin/vm", "directory for images and logs")
	flag.IntVar(&o.parallel, "parallel", 2, "machines to run at once")
	flag.Parse()
	return o
}

// choose returns the elements of all that names has, or all of them.
func choose[T any](names string, all []T, name func(T) string) ([]T, error) {
	if names == "" {
		return all, nil
	}
	var out []T
	for n := range strings.SplitSeq(names, ",") {
		found := len(out)
		for _, e := range all {
			if name(e) == n {
				out = append(out, e)
			}
		}
		if len(out) == found {
			return nil, fmt.Errorf("there is no %q", n)
		}
	}
	return out, nil
}
