package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent"
	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/internal/version"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "plexusd",
		Short: "The Plexus agent",
		Long: `plexusd joins this host to a mesh, encrypts its traffic with other members and
enforces policy on its interfaces. It needs root.

It starts unjoined and waits on its socket for "plexus init" or "plexus join",
once; after that it remembers. Stopping it leaves tunnel and policy in force.

Every setting is a key of the configuration file, an environment variable
(PLEXUS_ and the key in capitals, with _ for . and -) and a flag. Flags win over
the environment, which wins over the file.`,
		Example: `  plexusd
  plexusd --config /etc/plexus/plexusd.yaml --log-level debug
  PLEXUS_WIREGUARD_PORT=51872 plexusd`,
		Version:       version.Get().String(),
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          run,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	config.AddFlags(root.PersistentFlags())
	root.AddCommand(newConfig(), newGuard(), newCleanup(), newWireGuard())
	return root
}

func run(cmd *cobra.Command, _ []string) error {
	cfg, err := config.Load(cmd.Flags())
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own executable: %w", err)
	}
	return agent.Run(cmd.Context(), agent.Options{
		Config:  cfg,
		Logger:  cfg.Logger(),
		Version: version.Version,
		Helper:  []string{self, "wireguard"},
	})
}
