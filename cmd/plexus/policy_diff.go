package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newPolicyDiff(a *app) *cobra.Command {
	var names []string
	c := &change{app: a}
	cmd := &cobra.Command{
		Use:   "diff [-f FILE] [--delete NAME]",
		Short: "Show what a change of policy would do",
		Long: `diff shows, and changes nothing, what "policy apply" of the files and "policy delete"
of the names would do together: mistakes that it found in the policies, what
changes on each host, in verdict entries and in words, and what could be cut off.

Errors, with which apply would refuse the change, go to standard error, and the exit
code is 1.`,
		Example: "  plexus policy diff -f web.yaml\n  plexus policy diff -f ./policies --delete prod/web -o json",
		Args:    filesByFlag,
	}
	addFilesOption(cmd, &names)
	cmd.Flags().StringArrayVar(&c.remove, "delete", nil, "`name` of a policy to delete; repeat for more")
	cmd.Flags().BoolVar(&c.allowEmpty, "allow-empty", false, "accept policies that select no host")
	checkFirst(cmd, func() error {
		if len(names) == 0 && len(c.remove) == 0 {
			return usagef("a change is missing: give policy files with -f, or names with --delete")
		}
		return nil
	})
	mustComplete(cmd, "delete", meshPolicyNames(a))
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if c.files, err = readPolicies(cmd.InOrStdin(), names); err != nil {
			return err
		}
		review, err := c.review(cmd)
		if err != nil {
			return err
		}
		return showDiff(p, cmd.OutOrStdout(), newReviewText(cmd.OutOrStdout(), review))
	}
	return cmd
}

// showDiff prints a review by itself.
func showDiff(p *printer, w io.Writer, t reviewText) error {
	return errors.Join(p.print(w, t.Review, t.write), t.refused())
}

// reviewText is a review as people read it.
type reviewText struct {
	api.Review
	palette palette
}

func newReviewText(w io.Writer, r api.Review) reviewText { return reviewText{r, newPalette(w)} }

// write also lists the policies, which a result lists otherwise.
func (t reviewText) write(w io.Writer) error {
	if err := writeTable(w, t.Policies, changeColumns); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return t.body(w)
}

// body says what changes, what could be cut off, and what else was found. Errors
// are left to refused.
func (t reviewText) body(w io.Writer) error {
	for _, f := range t.Findings {
		if f.Severity != api.SeverityError {
			fmt.Fprintf(w, "%s: %s%s (%s)\n", f.Severity, where(f), f.Text, f.Code)
		}
	}
	if len(t.Hosts) == 0 {
		fmt.Fprintln(w, "no verdict changes on any host")
	}
	for _, h := range t.Hosts {
		fmt.Fprintf(w, "%s: verdict entries: %d before, %d after (%d added, %d removed, %d changed)\n", h.Host, h.Before, h.After, h.Added, h.Removed, h.Changed)
		for _, line := range h.Lines {
			fmt.Fprintln(w, "  "+line)
		}
	}
	for _, c := range t.Cuts {
		fmt.Fprintf(w, "%s on %s: %s\n", t.palette.bad("could cut"), c.Host, c.What)
	}
	return nil
}

// where is "file:line: path: ", as far as it is known.
func where(f api.Finding) string {
	var parts []string
	switch {
	case f.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", f.File, f.Line))
	case f.Policy != "":
		parts = append(parts, "policy "+f.Policy)
	}
	if f.Path != "" {
		parts = append(parts, f.Path)
	}
	return strings.Join(append(parts, ""), ": ")
}

// refused returns the errors that the review found as one.
func (t reviewText) refused() error {
	var errs []error
	for _, f := range t.Findings {
		if f.Severity == api.SeverityError {
			errs = append(errs, fmt.Errorf("%s%s (%s)", where(f), f.Text, f.Code))
		}
	}
	return errors.Join(errs...)
}
