package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/mesh"
)

func newInit(a *app) *cobra.Command {
	var (
		h host
		l labelled
		r api.InitRequest
	)
	cmd := &cobra.Command{
		Use:   "init --cluster-name NAME --cluster-id ID",
		Short: "Make a mesh, with this host as its first server",
		Long: `init makes the mesh's certificate authority and its state, and makes this host the
first member. It prints a join command for the next host: its token is good for
one host and one hour. "plexus token create" makes more.

Name and id tell this mesh from every other one that it may ever federate with,
Cilium clusters among them, and cannot be changed later.`,
		Example: `  plexus init --cluster-name demo --cluster-id 7
  plexus init --cluster-name demo --cluster-id 7 --node-name alpha --advertise 192.0.2.1 --label app=web`,
		Args: noArgs,
	}
	h.addFlags(cmd)
	l.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.ClusterName, "cluster-name", "", "name of the mesh; at most 32 lower-case letters, digits and dashes")
	f.Uint32Var(&r.ClusterID, "cluster-id", 0, "number of the mesh, 1 to 127")
	f.BoolVar(&r.ForceClusterID, "force-cluster-id", false, "allow cluster ids up to 255")
	f.StringVar(&r.Pool4, "pool4", "", "`CIDR` that IPv4 mesh addresses are taken from (default 10.210.0.0/16)")
	_ = cmd.MarkFlagRequired("cluster-name") // both flags are defined above
	_ = cmd.MarkFlagRequired("cluster-id")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := completeInit(&r, h, l); err != nil {
			return err
		}
		progress(cmd.ErrOrStderr(), "making mesh %s on host %s ...", r.ClusterName, r.NodeName)
		joined, err := a.client().Init(cmd.Context(), r)
		if err != nil {
			return err
		}
		return printJoined(cmd, p, joined)
	}
	return cmd
}

// completeInit checks the flags and adds them to r.
func completeInit(r *api.InitRequest, h host, l labelled) (err error) {
	if err := mesh.ValidateClusterName(r.ClusterName); err != nil {
		return asUsage(err)
	}
	if err := mesh.ValidateClusterID(r.ClusterID, r.ForceClusterID); err != nil {
		return asUsage(fmt.Errorf("%w (--force-cluster-id)", err))
	}
	if r.Pool4, err = parsePool(r.Pool4); err != nil {
		return asUsage(err)
	}
	if r.NodeName, r.Advertise, err = h.parse(); err != nil {
		return err
	}
	r.Namespace = l.namespace
	r.Labels, err = l.parse()
	return err
}

// printJoined says what a host has become and, where tunnel and policy are not
// in force yet, what hinders that.
func printJoined(cmd *cobra.Command, p *printer, j api.Joined) error {
	if err := p.print(cmd.OutOrStdout(), j, func(w io.Writer) error { return writeJoined(w, j) }); err != nil {
		return err
	}
	if j.Governed {
		return nil
	}
	stderr := cmd.ErrOrStderr()
	for _, warning := range j.Warnings {
		fmt.Fprintf(stderr, "plexus: %s: %s\n", warning.Severity, warning.Text)
	}
	fmt.Fprintln(stderr, "plexus: the host has joined, but tunnel and policy are not in force yet: plexus status --wait tells when they are")
	return errDegraded
}

// writeJoined says what a host has become.
func writeJoined(w io.Writer, j api.Joined) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	role := "member"
	if j.Node.Server {
		role = "server"
	}
	for _, row := range [][2]string{
		{"node", fmt.Sprintf("%s (%s)", j.Node.Name, role)},
		{"mesh", j.Node.Cluster},
		{"mesh addresses", addrs(j.Node.MeshIPv4, j.Node.MeshIPv6)},
		{"node addresses", addrs(j.Node.Addresses...)},
		{"identity", fmt.Sprint(j.Node.Identity)},
		{"labels", strings.Join(shortLabels(j.Node.Labels), ", ")},
	} {
		fmt.Fprintf(tw, "%s\t%s\n", row[0], orDash(row[1]))
	}
	if err := tw.Flush(); err != nil || j.Token == nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nJoin the next host before %s with:\n\n  plexus join %s\n", stamp(j.Token.Expires), j.Token.Token)
	return err
}
