package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/config"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configuration"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Check the configuration without starting anything",
		Long: `check reads the configuration as plexusd would, from the file, the environment and
flags, and reports every problem in it. It exits with 1 if there is one.`,
		Example: `  plexusd config check
  plexusd config check --config ./plexusd.yaml`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := config.Load(cmd.Flags()); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "configuration is valid")
			return nil
		},
	})
	return cmd
}
