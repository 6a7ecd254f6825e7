package main

import (
	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/encryption/wg"
)

// newWireGuard is the helper that plexusd starts where the kernel has no
// WireGuard. It is a process of its own, so that a tunnel outlives the agent.
func newWireGuard() *cobra.Command {
	var o wg.UserspaceOptions
	cmd := &cobra.Command{
		Use:    "wireguard",
		Short:  "Run WireGuard for one device (started by plexusd)",
		Hidden: true,
		Args:   noArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return wg.RunUserspace(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.Device, "device", "", "name of the TUN device")
	cmd.Flags().IntVar(&o.MTU, "mtu", 0, "MTU of the device, bytes")
	cmd.Flags().StringVar(&o.PIDFile, "pid-file", "", "file that names this process")
	return cmd
}
