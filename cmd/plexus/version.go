package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/internal/version"
)

func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print which build of plexus this is",
		Long:    `version prints the build of this command. "plexus status" shows that of the daemon.`,
		Example: "  plexus version\n  plexus version -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := version.Get()
		return p.print(cmd.OutOrStdout(), v, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, "plexus", v)
			return err
		})
	}
	return cmd
}
