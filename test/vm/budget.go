package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// budgetFile holds the numbers that the programs in the tree had when somebody
// last looked at them.
const budgetFile = "test/vm/budget.yaml"

// tolerance is how much a number may grow before somebody must look at it, in percent.
const tolerance = 10

const budgetHead = `# How many instructions the verifier of each kernel looks at, for each program and
# the settings it is loaded with. make test-vm fails where one has grown by more
# than 10 %; whoever finds that right runs make test-vm-budget and commits this
# file with the change, and says why there.
`

// counts are numbers of instructions, by kernel and program.
type counts map[string]map[string]int

func (c counts) put(kernel, program string, n int) {
	if c[kernel] == nil {
		c[kernel] = map[string]int{}
	}
	c[kernel][program] = n
}

func readBudget(path string) (counts, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	budget := counts{}
	if err := dec.Decode(&budget); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return budget, nil
}

// writeBudget keeps the numbers of kernels that were not measured.
func writeBudget(path string, budget, measured counts) error {
	next := maps.Clone(budget)
	maps.Copy(next, measured)
	text, err := yaml.Marshal(next)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(budgetHead), text...), 0o644)
}

// compare says what is wrong with the numbers of one kernel: what has grown, what
// the budget does not know, and what it knows but was not measured.
func compare(kernel string, budget, measured map[string]int) error {
	var errs []error
	for _, program := range slices.Sorted(maps.Keys(measured)) {
		n, limit, known := measured[program], budget[program], false
		if limit > 0 {
			known = true
		}
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("%s on %s is not in %s", program, kernel, budgetFile))
		case n*100 > limit*(100+tolerance):
			errs = append(errs, fmt.Errorf("%s on %s: %d verified instructions are %+.1f %% of %d: more than %d %%",
				program, kernel, n, growth(n, limit), limit, tolerance))
		}
	}
	for _, program := range slices.Sorted(maps.Keys(budget)) {
		if _, ok := measured[program]; !ok {
			errs = append(errs, fmt.Errorf("%s is in %s, but %s has loaded no such program", program, budgetFile, kernel))
		}
	}
	return errors.Join(errs...)
}

func growth(n, from int) float64 { return 100*float64(n)/float64(from) - 100 }

// printCounts prints one table: programs by kernels, each with its change since
// the budget.
func printCounts(out io.Writer, kernels []string, budget, measured counts) error {
	programs := map[string]bool{}
	for _, c := range measured {
		for p := range c {
			programs[p] = true
		}
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "verified instructions\t%s\t\n", strings.Join(kernels, "\t"))
	for _, p := range slices.Sorted(maps.Keys(programs)) {
		fmt.Fprintf(tw, "%s\t", p)
		for _, k := range kernels {
			fmt.Fprintf(tw, "%s\t", cell(measured[k][p], budget[k][p]))
		}
		fmt.Fprintln(tw)
	}
	return tw.Flush()
}

func cell(n, budget int) string {
	switch {
	case n == 0:
		return "-"
	case budget == 0:
		return fmt.Sprintf("%d (new)", n)
	}
	return fmt.Sprintf("%d (%+.1f %%)", n, growth(n, budget))
}
