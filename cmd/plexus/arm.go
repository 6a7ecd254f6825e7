package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newArm(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "arm",
		Short: "Put policy in force on this host again",
		Long: `arm ends what "plexus disarm" began. The mesh's policy, as far as this host knows it,
is in force again when the command ends; flows that it denies are cut.`,
		Example: "  plexus arm\n  plexus arm -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := a.client().Arm(cmd.Context())
		if err != nil {
			return err
		}
		return p.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, armedText(r))
			return err
		})
	}
	return cmd
}

func armedText(r api.Armed) string {
	if r.Before == nil {
		return "policy was in force on this host already"
	}
	return "policy is in force on this host again; it was suspended since " + stamp(r.Before.Since)
}
