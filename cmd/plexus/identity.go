package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/identity"
)

func newIdentity(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "identity",
		Short: "List and show identities",
		Long: `An identity is a numbered set of labels. Policy selects labels; the kernel judges by
the number. The upper bits of a number are the id of its cluster.`,
		Example: "  plexus identity list\n  plexus identity get 459008",
	},
		newIdentityList(a), newIdentityGet(a))
}

var identityColumns = []column[api.Identity]{
	{head: "ID", cell: func(i api.Identity) string { return fmt.Sprint(i.ID) }},
	{head: "LABELS", cell: func(i api.Identity) string { return commas(i.Labels) }},
	{head: "NODES", cell: func(i api.Identity) string { return commas(i.Nodes) }},
}

func newIdentityList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the identities of the mesh",
		Long:    "list shows every identity with its labels, as policy selects them, and the hosts that carry it.",
		Example: "  plexus identity list\n  plexus identity list -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ids, err := a.client().Identities(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), ids, identityColumns)
	}
	return cmd
}

func newIdentityGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "get ID",
		Short:             "Show one identity",
		Long:              "get shows the labels of an identity, by its number, and the hosts that carry it.",
		Example:           "  plexus identity get 459008",
		Args:              oneArg("the number of an identity"),
		ValidArgsFunction: namesOf(a, mapped((*api.Client).Identities, func(i api.Identity) string { return fmt.Sprint(i.ID) })),
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := identity.ParseNumber(args[0])
		if err != nil {
			return asUsage(err)
		}
		ids, err := a.client().Identities(cmd.Context())
		if err != nil {
			return err
		}
		for _, i := range ids {
			if i.ID == uint32(id) {
				return printOne(p, cmd.OutOrStdout(), i, identityColumns)
			}
		}
		return fmt.Errorf("identity %d does not exist: see plexus identity list", id)
	}
	return cmd
}
