package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/scenario"
)

// testResult is what policy test prints of each test. Its JSON field names are a
// contract.
type testResult struct {
	Name         string          `json:"name"`
	Verdict      string          `json:"verdict"`
	Expected     string          `json:"expected"`
	Pass         bool            `json:"pass"`
	Rule         string          `json:"rule"`                   // that decided; may be empty
	ExpectedRule *string         `json:"expectedRule,omitempty"` // only where the test names one
	File         string          `json:"file"`
	Line         int             `json:"line"`
	Directions   []api.Judgement `json:"directions"`
	Notes        []string        `json:"notes"`
}

func newTestResult(r scenario.Result) testResult {
	e := api.NewExplanation(r.Answer)
	return testResult{
		Name: r.Test.Name, Verdict: e.Verdict, Expected: string(r.Test.Expected), Pass: r.Pass,
		Rule: e.Rule, ExpectedRule: r.Test.Rule, File: r.File, Line: r.Test.Line, Directions: e.Directions, Notes: e.Notes,
	}
}

func newPolicyTest() *cobra.Command {
	var (
		names []string
		junit string
		local bool
	)
	cmd := &cobra.Command{
		Use:   "test -f POLICIES TESTS...",
		Short: "Check what policies decide, without a daemon",
		Long: `test plays files of policy tests under policy documents: each test names a flow and
what policy should say to it. It speaks to no daemon and judges with the compiler
that hosts enforce policy with. docs/policy-test.md describes the files.

It prints the tests that do not pass, all of them with -o wide, and exits with 4 if
there is one, with 1 if a file cannot be read.`,
		Example: `  plexus policy test -f ./policies tests.yaml
  plexus policy test -f web.yaml -f db.yaml --junit report.xml tests/*.yaml
  plexus policy test -f web.yaml tests.yaml -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("a file of tests is missing")
			}
			return nil
		},
	}
	addFilesFlag(cmd, &names)
	cmd.Flags().StringVar(&junit, "junit", "", "write the results as JUnit XML to this `file` too")
	cmd.Flags().BoolVar(&local, "default-local-cluster", true,
		"whether selectors of peers mean the own mesh unless they name a cluster; takes the place of defaultLocalCluster in the files")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var o scenario.Options
		if every := !local; cmd.Flags().Changed("default-local-cluster") {
			o.EveryCluster = &every
		}
		results, err := runTests(cmd.InOrStdin(), names, args, o)
		if err != nil {
			return err
		}
		if junit != "" {
			if err := writeJUnit(junit, results); err != nil {
				return err
			}
		}
		return printResults(p, cmd.OutOrStdout(), results)
	}
	return cmd
}

// runTests plays the tests of files under the policies that names name. Its error
// holds every problem of every file.
func runTests(stdin io.Reader, names, files []string, o scenario.Options) ([]testResult, error) {
	documents, err := readPolicies(stdin, names)
	if err != nil {
		return nil, err
	}
	policies, err := parsePolicies(documents)
	errs := []error{err}
	var suites []*scenario.File
	for _, name := range files {
		data, err := readFile(stdin, name, scenario.MaxFileSize)
		if err == nil {
			var s *scenario.File
			s, err = scenario.Parse(cmp.Or(shownName(name), name), data)
			suites = append(suites, s)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return play(policies, suites, o)
}

func play(policies []policy.Policy, suites []*scenario.File, o scenario.Options) ([]testResult, error) {
	out := []testResult{}
	for _, s := range suites {
		results, err := scenario.Run(policies, s, o)
		if err != nil {
			return nil, fmt.Errorf("play %s: %w", s.Name, err)
		}
		for _, r := range results {
			out = append(out, newTestResult(r))
		}
	}
	return out, nil
}

// printResults prints what did not pass, or everything, and says by its error
// whether all did.
func printResults(p *printer, w io.Writer, results []testResult) error {
	failed := 0
	for _, r := range results {
		if !r.Pass {
			failed++
		}
	}
	err := p.print(w, results, func(w io.Writer) error {
		for _, r := range results {
			if !r.Pass || p.format.value == formatWide {
				writeTestResult(w, newPalette(w), r)
			}
		}
		_, err := fmt.Fprintf(w, "%s, %d failed\n", counted(len(results), "test"), failed)
		return err
	})
	if err == nil && failed > 0 {
		err = errTestsFailed
	}
	return err
}

func writeTestResult(w io.Writer, c palette, r testResult) {
	word := c.good("ok  ")
	if !r.Pass {
		word = c.bad("FAIL")
	}
	fmt.Fprintf(w, "%s  %s (%s:%d)\n", word, r.Name, r.File, r.Line)
	fmt.Fprintf(w, "      %s\n", r.summary())
	writeJudgements(w, "      ", r.Directions, r.Notes)
}

// summary compares what was expected with what is; the rule only where one was
// expected.
func (r testResult) summary() string {
	is := &r.Rule
	if r.ExpectedRule == nil {
		is = nil
	}
	return fmt.Sprintf("expected %s, got %s", expectation(r.Expected, r.ExpectedRule), expectation(r.Verdict, is))
}

// expectation is a verdict with the rule that gives it, where that matters.
func expectation(verdict string, rule *string) string {
	switch {
	case rule == nil:
		return verdict
	case *rule == "":
		return verdict + " by no rule"
	}
	return verdict + " by " + *rule
}

// counted is "1 test" or "2 tests".
func counted(n int, what string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// writeJUnit writes a report that systems for continuous integration read.
func writeJUnit(name string, results []testResult) error {
	data, err := encodeJUnit(results)
	if err == nil {
		err = os.WriteFile(name, data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}
