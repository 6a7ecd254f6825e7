package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newDisarm(a *app) *cobra.Command {
	var r api.DisarmRequest
	cmd := &cobra.Command{
		Use:   "disarm",
		Short: "Suspend policy on this host",
		Long: `disarm opens this host: no policy denies anything here until "plexus arm". It asks
nobody, so that it works while no server answers, and it outlasts restarts of the
daemon and of the host. Traffic between members stays encrypted, other hosts keep
judging what reaches them, and "plexus status" says loudly that policy is off.`,
		Example: "  plexus disarm\n  plexus disarm --reason \"locked out, ticket 4711\"",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why, for status")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := a.client().Disarm(cmd.Context(), r)
		if err != nil {
			return err
		}
		return p.print(cmd.OutOrStdout(), d, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, newPalette(w).bad("DISARMED")+": policy is suspended on this host and denies nothing, until plexus arm")
			return err
		})
	}
	return cmd
}
