package main

import (
	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent"
	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/internal/version"
)

func newGuard() *cobra.Command {
	return &cobra.Command{
		Use:   "guard",
		Short: "Put the saved policy in force, once, before the network comes up",
		Long: `guard enforces what this host last knew of its mesh, from its disk alone: no
etcd, no server and no daemon is asked. plexus-guard.service runs it at boot,
before any interface has an address; plexusd takes over what it leaves in the
kernel, without a packet lost. On a host that has not joined, or beside a running
plexusd, it does nothing.

It ends within the setting guard.timeout. Where the saved policy cannot be put in
force, the setting guard.onFailure decides whether the host boots open or closed,
and guard exits with 1.`,
		Example: `  plexusd guard
  plexusd guard --guard-on-failure closed --guard-timeout 20s`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd.Flags())
			if err != nil {
				return err
			}
			return agent.Guard(cmd.Context(), agent.Options{Config: cfg, Logger: cfg.Logger(), Version: version.Version})
		},
	}
}
