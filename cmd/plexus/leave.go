package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newLeave(a *app) *cobra.Command {
	var r api.LeaveRequest
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take this host out of its mesh",
		Long: `leave tells the mesh that this host is no member any more, and removes from this
host what made it one: policy, tunnel, addresses, keys and certificate. The daemon
stays and can join again, with a new token.

With --force it leaves also when no server answers: remove the host on another
member then ("plexus node remove"). The last server leaves with --force alone,
because with it the mesh is gone.`,
		Example: "  plexus leave\n  plexus leave --force",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.client().Leave(cmd.Context(), r); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "this host has left its mesh")
			return err
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "leave without a server, or take the last server away")
	return cmd
}
