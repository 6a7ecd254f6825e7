package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newPolicy(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "policy",
		Short: "Change, list and check the mesh's policy",
		Long: `Policy belongs to the mesh: every host enforces those policies that select it. A
policy is named by its name, and a namespaced one by NAMESPACE/NAME.`,
		Example: "  plexus policy apply -f web.yaml\n  plexus policy list",
	},
		newPolicyApply(a), newPolicyList(a), newPolicyGet(a), newPolicyDelete(a), newPolicyValidate(), newPolicyFailsafe(a))
}

// policyID is what commands name a policy by.
func policyID(p api.Policy) string { return p.ID }

func policyNames(a *app) completion { return namesOf(a, mapped((*api.Client).Policies, policyID)) }

var changeColumns = []column[api.PolicyChange]{
	{head: "POLICY", cell: func(c api.PolicyChange) string { return c.Name }},
	{head: "CHANGE", cell: func(c api.PolicyChange) string { return c.Change }},
	{head: "SELECTS", cell: func(c api.PolicyChange) string { return commas(c.Selects) }},
}

// printChange says what a change of policy did.
func printChange(p *printer, w io.Writer, r api.ApplyResult) error {
	return p.print(w, r, func(w io.Writer) error {
		if err := writeTable(w, r.Policies, changeColumns); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\npolicy revision is %d\n", r.Revision)
		return err
	})
}

func newPolicyApply(a *app) *cobra.Command {
	var (
		names      []string
		allowEmpty bool
	)
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or update policies",
		Long: `apply sends policy documents to the mesh: CiliumNetworkPolicy and
CiliumClusterwideNetworkPolicy, in YAML. All of them are accepted, or none: a
field that cannot be enforced is refused with its name and line.

A policy that selects no host is refused too, because it is most often a mistake
that leaves something open; --allow-empty accepts it. A file may have 1 MiB, all
files of one apply together 2 MiB.`,
		Example: `  plexus policy apply -f web.yaml -f db.yaml
  plexus policy apply -f ./policies
  plexus policy apply --allow-empty -f - < web.yaml`,
		Args: noArgs,
	}
	addFilesFlag(cmd, &names)
	cmd.Flags().BoolVar(&allowEmpty, "allow-empty", false, "accept policies that select no host")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		files, err := readPolicies(cmd.InOrStdin(), names)
		if err != nil {
			return err
		}
		result, err := a.client().ApplyPolicies(cmd.Context(), api.ApplyRequest{Files: files, AllowEmpty: allowEmpty})
		if err != nil {
			return err
		}
		return printChange(p, cmd.OutOrStdout(), result)
	}
	return cmd
}

// addFilesFlag gives cmd the required flag -f.
func addFilesFlag(cmd *cobra.Command, names *[]string) {
	cmd.Flags().StringArrayVarP(names, "filename", "f", nil, "policy `file`, directory, or - for standard input; repeat for more")
	_ = cmd.MarkFlagRequired("filename") // it is defined above
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json")
}

var policyColumns = []column[api.Policy]{
	{head: "NAME", cell: policyID},
	{head: "KIND", cell: func(p api.Policy) string { return p.Kind }},
	{head: "REVISION", cell: func(p api.Policy) string { return fmt.Sprint(p.Revision) }},
	{head: "SELECTS", cell: func(p api.Policy) string { return commas(p.Selects) }},
	{head: "AUTHOR", cell: func(p api.Policy) string { return p.Author }, wide: true},
	{head: "CHANGED", cell: func(p api.Policy) string { return stamp(p.Changed) }, wide: true},
}

func newPolicyList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the mesh's policies",
		Long:    "list shows every policy with the hosts that it selects. REVISION is that of its last change.",
		Example: "  plexus policy list\n  plexus policy list -o wide",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		policies, err := a.client().Policies(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), policies, policyColumns)
	}
	return cmd
}

func newPolicyGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get [NAMESPACE/]NAME",
		Short: "Show one policy",
		Long: `get prints the policy's document as it was applied, with comments that say what it
selects, so that "policy apply -f -" takes it again.`,
		Example:           "  plexus policy get web\n  plexus policy get prod/web -o json",
		Args:              oneArg("the name of a policy"),
		ValidArgsFunction: policyNames(a),
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		policies, err := a.client().Policies(cmd.Context())
		if err != nil {
			return err
		}
		for _, pol := range policies {
			if policyID(pol) == args[0] {
				return p.print(cmd.OutOrStdout(), pol, func(w io.Writer) error { return writePolicy(w, pol) })
			}
		}
		return fmt.Errorf("policy %q does not exist: see plexus policy list", args[0])
	}
	return cmd
}

func writePolicy(w io.Writer, p api.Policy) error {
	_, err := fmt.Fprintf(w, "# revision %d, changed by %s at %s\n# selects: %s\n%s\n",
		p.Revision, orDash(p.Author), stamp(p.Changed), orDash(strings.Join(p.Selects, ", ")), strings.TrimRight(p.Source, "\n"))
	return err
}

func newPolicyDelete(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete [NAMESPACE/]NAME",
		Short: "Delete a policy",
		Long: `delete removes one policy from the mesh. Hosts that no other policy selects are open
again: "plexus status" says so in words.`,
		Example:           "  plexus policy delete web\n  plexus policy delete prod/web",
		Args:              oneArg("the name of a policy"),
		ValidArgsFunction: policyNames(a),
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		result, err := a.client().DeletePolicy(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return printChange(p, cmd.OutOrStdout(), result)
	}
	return cmd
}

var pinholeColumns = []column[api.Pinhole]{
	{head: "DIRECTION", cell: func(h api.Pinhole) string { return h.Direction }},
	{head: "PROTOCOL", cell: func(h api.Pinhole) string { return h.Protocol }},
	{head: "PORT", cell: func(h api.Pinhole) string { return fmt.Sprint(h.Port) }},
	{head: "WHY", cell: func(h api.Pinhole) string { return h.Why }},
}

func newPolicyFailsafe(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "failsafe",
		Short:   "List what passes whatever policy says",
		Long:    "failsafe shows the new flows of this host that no policy can deny, each with its reason.",
		Example: "  plexus policy failsafe\n  plexus policy failsafe -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		holes, err := a.client().Pinholes(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), holes, pinholeColumns)
	}
	return cmd
}
