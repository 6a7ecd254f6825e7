package main

import (
	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent"
	"github.com/plexusmesh/plexus/agent/config"
)

func newCleanup() *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove everything that plexusd put into the kernel",
		Long: `cleanup removes what is marked as ours, and nothing else: policy programs, BPF
pins, the WireGuard device with its addresses, and routes. It needs no running
daemon and refuses to work beside one. Keys and membership stay: to leave the
mesh as well, use "plexus leave".`,
		Example: `  systemctl stop plexusd && plexusd cleanup`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(cmd.Flags())
			if err != nil {
				return err
			}
			return agent.Cleanup(cmd.Context(), cfg)
		},
	}
}
