package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

// defaultTrial is how long a person at a terminal has to confirm a change that
// could cut them off.
const defaultTrial = time.Minute

// change is what apply and delete share: a review, a trial where one is due, and
// what became of it.
type change struct {
	app     *app
	printer *printer

	files      []api.PolicyFile
	remove     []string
	allowEmpty bool

	within    time.Duration
	noConfirm bool
	dryRun    bool
	message   string
}

// applied is what they print. Its JSON field names are a contract: without the
// fields of the result, the change was refused.
type applied struct {
	*api.ApplyResult
	Review api.Review `json:"review"`
}

// newChange gives cmd the flags of a change.
func newChange(a *app, cmd *cobra.Command) *change {
	c := &change{app: a, printer: newPrinter(cmd)}
	flags := cmd.Flags()
	flags.DurationVar(&c.within, "confirm-within", 0, "take the change back unless it is confirmed within this `time`, 10s to 1h")
	flags.BoolVar(&c.noConfirm, "no-confirm", false, "no trial, whatever the change could cut off")
	flags.BoolVar(&c.dryRun, "dry-run", false, "show what would change, as policy diff does, and change nothing")
	flags.StringVarP(&c.message, "message", "m", "", "why, for policy history")
	return c
}

func (c *change) run(cmd *cobra.Command) error {
	asked := cmd.Flags().Changed("confirm-within")
	if asked && c.noConfirm {
		return usagef("--confirm-within and --no-confirm are given: choose one")
	}
	if asked && (c.within < api.MinConfirmWithin || c.within > api.MaxConfirmWithin) {
		return usagef("--confirm-within %v is out of range: use 10s to 1h, or --no-confirm for no trial", c.within)
	}
	review, err := c.review(cmd)
	if err != nil {
		return err
	}
	text := newReviewText(cmd.OutOrStdout(), review)
	if c.dryRun {
		return showDiff(c.printer, cmd.OutOrStdout(), text)
	}
	if err := text.refused(); err != nil {
		return errors.Join(c.printer.print(cmd.OutOrStdout(), applied{Review: review}, nothing), err)
	}
	window, why := c.trial(review, asked)
	if c.printer.text() {
		if err := text.body(cmd.OutOrStdout()); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout())
	}
	if why != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "plexus:", why)
	}
	result, err := c.app.client().ApplyPolicies(cmd.Context(), api.ApplyRequest{
		Files: c.files, Delete: c.remove, AllowEmpty: c.allowEmpty, ConfirmWithin: window, Base: &review.Revision, Message: c.message,
	})
	if err != nil {
		return err
	}
	return c.show(cmd, applied{&result, review})
}

// nothing is what a refused change prints beside its errors.
func nothing(io.Writer) error { return nil }

func (c *change) review(cmd *cobra.Command) (api.Review, error) {
	return c.app.client().ReviewPolicies(cmd.Context(), api.ReviewRequest{
		Files: c.files, Delete: c.remove, AllowEmpty: c.allowEmpty, Terminal: ownTerminal(),
	})
}

// trial returns how long the change is on trial, and what to say about that.
func (c *change) trial(r api.Review, asked bool) (window time.Duration, why string) {
	switch {
	case asked:
		return c.within, ""
	case c.noConfirm || len(r.Cuts) == 0:
		return 0, ""
	case attended():
		return defaultTrial, "this change could cut off what is listed above, so that it is on trial for 60 s: --no-confirm applies it for good"
	}
	return 0, "this change could cut off what is listed above; it is not on trial, since no terminal is here to confirm it: ask for that with --confirm-within 60s"
}

// show prints what was done, and what is left to do.
func (c *change) show(cmd *cobra.Command, a applied) error {
	out := cmd.OutOrStdout()
	if !c.printer.text() && a.Pending != nil {
		fmt.Fprint(cmd.ErrOrStderr(), trialText(*a.Pending, newPalette(cmd.ErrOrStderr())))
	}
	return c.printer.print(out, a, func(w io.Writer) error { return writeResult(w, *a.ApplyResult) })
}

var changeColumns = []column[api.PolicyChange]{
	{head: "POLICY", cell: func(c api.PolicyChange) string { return c.Name }},
	{head: "CHANGE", cell: func(c api.PolicyChange) string { return c.Change }},
	{head: "SELECTS", cell: func(c api.PolicyChange) string { return commas(c.Selects) }},
}

func writeResult(w io.Writer, r api.ApplyResult) error {
	if err := writeTable(w, r.Policies, changeColumns); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\npolicy revision is %d\n", r.Revision); err != nil || r.Pending == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s", trialText(*r.Pending, newPalette(w)))
	return err
}

// trialText says that a revision is on trial, until when, and what to do.
func trialText(p api.Pending, colours palette) string {
	return fmt.Sprintf(`%s until %s, for %d s: unless it is confirmed, every host puts back what was before
  keep it, once a new connection shows that it works:  plexus policy confirm %d
  undo it at once:                                     plexus policy rollback
`, colours.bad("ON TRIAL"), stamp(p.ConfirmBy), p.Seconds, p.Revision)
}
