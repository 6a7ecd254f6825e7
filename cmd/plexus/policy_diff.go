package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
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

It exits with 1 if there are errors, with which apply would refuse the change.`,
		Example: "  plexus policy diff -f web.yaml\n  plexus policy diff -f ./policies --delete prod/web -o json",
		Args:    noArgs,
	}
	addFilesOption(cmd, &names)
	cmd.Flags().StringArrayVar(&c.remove, "delete", nil, "`name` of a policy to delete; repeat for more")
	cmd.Flags().BoolVar(&c.allowEmpty, "allow-empty", false, "accept policies that select no host")
	cmd.MarkFlagsOneRequired("filename", "delete")
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

// body says what was found, what changes and what could be cut off.
func (t reviewText) body(w io.Writer) error {
	for _, f := range t.Findings {
		fmt.Fprintln(w, t.finding(f))
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

func (t reviewText) finding(f api.Finding) string {
	severity := f.Severity
	if severity == api.SeverityError {
		severity = t.palette.bad(severity)
	}
	return fmt.Sprintf("%s: %s%s (%s)", severity, where(f), f.Text, f.Code)
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

// refused is the error that stands for those that the review found.
func (t reviewText) refused() error {
	if slices.ContainsFunc(t.Findings, func(f api.Finding) bool { return f.Severity == api.SeverityError }) {
		return errors.New("policy is refused: correct the errors that are listed above")
	}
	return nil
}
