package main

import (
	"github.com/spf13/cobra"
)

func newPolicyDelete(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [NAMESPACE/]NAME...",
		Short: "Delete policies",
		Long: `delete removes policies from the mesh, all that are named or none. It shows first
what changes, and puts the change on trial, as "policy apply" does. Hosts that no
other policy selects are open again: "plexus status" says so in words.`,
		Example:           "  plexus policy delete web prod/web\n  plexus policy delete cidrgroup:office --confirm-within 1m",
		Args:              someArgs("the name of a policy"),
		ValidArgsFunction: moreOf(meshPolicyNames(a)),
	}
	c := newChange(a, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.remove = args
		return c.run(cmd)
	}
	return cmd
}
