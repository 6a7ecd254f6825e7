package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

var pinholeColumns = []column[api.Pinhole]{
	{head: "DIRECTION", cell: func(h api.Pinhole) string { return h.Direction }},
	{head: "PROTOCOL", cell: func(h api.Pinhole) string { return h.Protocol }},
	{head: "PORT", cell: func(h api.Pinhole) string { return fmt.Sprint(h.Port) }},
	{head: "REMOTE", cell: pinholeRemote},
	{head: "WHY", cell: func(h api.Pinhole) string { return h.Why }},
}

func pinholeRemote(h api.Pinhole) string {
	if !h.Remote.IsValid() {
		return "any"
	}
	return h.Remote.String()
}

func newPolicyFailsafe(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "failsafe",
		Short: "List what passes whatever policy says",
		Long: `failsafe shows the new flows of this host that no policy can deny, each with its
reason. REMOTE is who may be on the other side. The setting failsafe of plexusd
chooses them, down to none.`,
		Example: "  plexus policy failsafe\n  plexus policy failsafe -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		holes, err := a.client().Pinholes(cmd.Context())
		if err != nil {
			return err
		}
		if len(holes) == 0 && p.text() {
			_, err := io.WriteString(cmd.OutOrStdout(), "no pinhole is open: policy alone decides about new flows of this host, also of WireGuard, DHCP, etcd and SSH\n")
			return err
		}
		return printList(p, cmd.OutOrStdout(), holes, pinholeColumns)
	}
	return cmd
}
