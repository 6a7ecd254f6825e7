package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newPolicyConfirm(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "confirm [REVISION]",
		Short: "Keep the change of policy that is on trial",
		Long: `confirm ends the trial of "policy apply --confirm-within": the change stays. With
REVISION it confirms that one alone, so that nobody keeps a change that they have
not seen. After the deadline there is nothing to confirm: apply again.`,
		Example:           "  plexus policy confirm\n  plexus policy confirm 7",
		Args:              maybeRevision,
		ValidArgsFunction: namesOf(a, revisions(func(r api.Revision) bool { return r.State == api.StatePending })),
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var req api.ConfirmRequest
		if len(args) > 0 {
			req.Revision, _ = parseRevision(args[0]) // maybeRevision has checked it
		}
		r, err := a.client().ConfirmPolicies(cmd.Context(), req)
		if err != nil {
			return err
		}
		return p.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "policy revision %d is confirmed: it stays in force\n", r.Revision)
			return err
		})
	}
	return cmd
}

func newPolicyRollback(a *app) *cobra.Command {
	var to revisionFlag
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Undo changes of policy",
		Long: `rollback puts back, by a new revision, what was before the last change of policy, or
before the one that is on trial. With --to it puts back what was in force after
that revision. It happens at once, without review and without trial: what was in
force before is known to work. So it never leads to a revision whose trial nobody
confirmed, and asking twice changes nothing more. "policy history" shows the
newest 100 revisions.`,
		Example: "  plexus policy rollback\n  plexus policy rollback --to 5",
		Args:    noArgs,
	}
	cmd.Flags().Var(&to, "to", "revision to go back to (default: the one before the last)")
	mustComplete(cmd, "to", namesOf(a, revisions(func(r api.Revision) bool { return r.State != api.StatePending })))
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		result, err := a.client().RollbackPolicies(cmd.Context(), api.RollbackRequest{To: uint64(to)})
		if err != nil {
			return err
		}
		return p.print(cmd.OutOrStdout(), result, func(w io.Writer) error { return writeResult(w, result) })
	}
	return cmd
}

// maybeRevision takes one revision, or none.
func maybeRevision(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case len(args) > 1:
		return usagef("unexpected argument %q", args[1])
	}
	_, err := parseRevision(args[0])
	return asUsage(err)
}

func parseRevision(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("revision %q is no number from 1: see plexus policy history", s)
	}
	return n, nil
}

// revisionFlag is a flag that takes a revision; 0 is none.
type revisionFlag uint64

func (r *revisionFlag) Type() string { return "REVISION" }

func (r *revisionFlag) String() string {
	if *r == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(*r), 10)
}

// Set accepts revisions alone.
func (r *revisionFlag) Set(s string) error {
	n, err := parseRevision(s)
	*r = revisionFlag(n)
	return err
}

// revisions completes with those of the history that are wanted.
func revisions(wanted func(api.Revision) bool) func(context.Context, *api.Client) ([]string, error) {
	return func(ctx context.Context, c *api.Client) ([]string, error) {
		all, err := c.PolicyHistory(ctx)
		var out []string
		for _, r := range all {
			if wanted(r) {
				out = append(out, strconv.FormatUint(r.Revision, 10))
			}
		}
		return out, err
	}
}
