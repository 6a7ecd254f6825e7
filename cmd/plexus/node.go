package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/mesh"
)

func newNode(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:     "node",
		Short:   "List, show and remove hosts of the mesh",
		Long:    "A node is a host of the mesh, named by the name that it joined with.",
		Example: "  plexus node list\n  plexus node get alpha",
	},
		newNodeList(a), newNodeGet(a), newNodeRemove(a))
}

var nodeColumns = []column[api.Node]{
	{head: "NAME", cell: func(n api.Node) string { return n.Name }},
	{head: "CLUSTER", cell: func(n api.Node) string { return n.Cluster }},
	{head: "MESH ADDRESSES", cell: func(n api.Node) string { return addrs(n.MeshIPv4, n.MeshIPv6) }},
	{head: "NODE ADDRESSES", cell: func(n api.Node) string { return addrs(n.Addresses...) }},
	{head: "IDENTITY", cell: func(n api.Node) string { return fmt.Sprint(n.Identity) }},
	{head: "LABELS", cell: func(n api.Node) string { return commas(shortLabels(n.Labels)) }},
	{head: "SERVER", cell: func(n api.Node) string { return yesNo(n.Server) }, wide: true},
	{head: "PORT", cell: func(n api.Node) string { return fmt.Sprint(n.Port) }, wide: true},
	{head: "PUBLIC KEY", cell: func(n api.Node) string { return n.PublicKey }, wide: true},
	{head: "VERSION", cell: func(n api.Node) string { return n.Version }, wide: true},
}

func newNodeList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the hosts of the mesh",
		Long:    "list shows every host that this one knows, itself among them.",
		Example: "  plexus node list\n  plexus node list -o wide",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		nodes, err := a.client().Nodes(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), nodes, nodeColumns)
	}
	return cmd
}

// nodeArg wants the name of one host.
func nodeArg(cmd *cobra.Command, args []string) error {
	if err := oneArg("the name of a host")(cmd, args); err != nil {
		return err
	}
	return asUsage(mesh.ValidateNodeName(args[0]))
}

func nodeNames(a *app) completion {
	return namesOf(a, mapped((*api.Client).Nodes, func(n api.Node) string { return n.Name }))
}

func newNodeGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "get NAME",
		Short:             "Show one host of the mesh",
		Long:              "get shows all that this host knows of another one, or of itself.",
		Example:           "  plexus node get alpha\n  plexus node get alpha -o yaml",
		Args:              nodeArg,
		ValidArgsFunction: nodeNames(a),
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		nodes, err := a.client().Nodes(cmd.Context())
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Name == args[0] {
				return printOne(p, cmd.OutOrStdout(), n, nodeColumns)
			}
		}
		return fmt.Errorf("node %q does not exist: see plexus node list", args[0])
	}
	return cmd
}

func newNodeRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take another host out of the mesh",
		Long: `remove revokes the host's certificate, and every other host drops it as a peer. The
host can join again with a new token. To take out this host, use "plexus leave".`,
		Example:           "  plexus node remove beta",
		Args:              nodeArg,
		ValidArgsFunction: nodeNames(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client().RemoveNode(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "node %s is removed\n", args[0])
			return err
		},
	}
}
