package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

var historyColumns = []column[api.Revision]{
	{head: "REVISION", cell: func(r api.Revision) string { return fmt.Sprint(r.Revision) }},
	{head: "TIME", cell: func(r api.Revision) string { return stamp(r.Time) }},
	{head: "AUTHOR", cell: func(r api.Revision) string { return r.Author }},
	{head: "ACTION", cell: revisionAction},
	{head: "STATE", cell: revisionState},
	{head: "CHANGES", cell: revisionChanges},
	{head: "MESSAGE", cell: func(r api.Revision) string { return r.Message }},
}

func revisionAction(r api.Revision) string {
	switch {
	case r.Expired:
		return fmt.Sprintf("%s of %d, not confirmed", r.Action, r.Of)
	case r.Of > r.To+1:
		return fmt.Sprintf("%s to %d", r.Action, r.To)
	case r.Of > 0:
		return fmt.Sprintf("%s of %d", r.Action, r.Of)
	}
	return r.Action
}

func revisionState(r api.Revision) string {
	if r.State == api.StatePending {
		return r.State + " until " + stamp(r.ConfirmBy)
	}
	return r.State
}

func revisionChanges(r api.Revision) string {
	var parts []string
	for _, c := range r.Changes {
		parts = append(parts, c.Name+" "+c.Change)
	}
	return strings.Join(parts, ", ")
}

func newPolicyHistory(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the changes of the mesh's policy",
		Long: `history shows the newest 100 revisions of the mesh's policy, the last one first:
when, by whom and how each was made, what became of it, and which policies it
changed.`,
		Example: "  plexus policy history\n  plexus policy history -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := a.client().PolicyHistory(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), all, historyColumns)
	}
	return cmd
}
