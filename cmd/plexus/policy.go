package main

import (
	"context"
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
policy is named by its name, and a namespaced one by NAMESPACE/NAME. Documents of
other kinds have their kind before that: cidrgroup:office, networkpolicy:prod/web.`,
		Example: "  plexus policy apply -f web.yaml\n  plexus policy list",
	},
		newPolicyApply(a), newPolicyDelete(a), newPolicyDiff(a), newPolicyConfirm(a), newPolicyRollback(a), newPolicyHistory(a),
		newPolicyList(a), newPolicyGet(a), newPolicyValidate(), newPolicyTest(), newPolicyExplain(a), newPolicyFailsafe(a))
}

// policyID is what commands name a policy by.
func policyID(p api.Policy) string { return p.ID }

// policyNames completes with policies of the mesh and of this host's own files.
func policyNames(a *app) completion { return namesOf(a, mapped((*api.Client).Policies, policyID)) }

var policyColumns = []column[api.Policy]{
	{head: "NAME", cell: policyID},
	{head: "KIND", cell: func(p api.Policy) string { return p.Kind }},
	{head: "REVISION", cell: policyRevision},
	{head: "SELECTS", cell: func(p api.Policy) string { return commas(p.Selects) }},
	{head: "AUTHOR", cell: func(p api.Policy) string { return p.Author }, wide: true},
	{head: "CHANGED", cell: func(p api.Policy) string { return stamp(p.Changed) }, wide: true},
	{head: "FILE", cell: func(p api.Policy) string { return p.File }, wide: true},
}

func policyRevision(p api.Policy) string {
	if p.Revision == 0 {
		return ""
	}
	return fmt.Sprint(p.Revision)
}

func newPolicyList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the mesh's policies",
		Long: `list shows every policy of the mesh with the hosts that it selects, and then those of
this host's own files, named local:NAME. REVISION is that of the last change; only the
mesh's servers know it, and who made that change.`,
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
selects, so that "policy apply -f -" takes it again. On a host that is no server, the
comments do not say who changed it.`,
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
	_, err := fmt.Fprintf(w, "%s# selects: %s\n%s\n", policyOrigin(p), orDash(strings.Join(p.Selects, ", ")), strings.TrimRight(p.Source, "\n"))
	return err
}

// policyOrigin says where a policy comes from, as far as this host knows.
func policyOrigin(p api.Policy) string {
	switch {
	case p.File != "":
		return fmt.Sprintf("# of this host's own file %s\n", p.File)
	case p.Revision > 0:
		return fmt.Sprintf("# revision %d, changed by %s at %s\n", p.Revision, orDash(p.Author), stamp(p.Changed))
	}
	return "# the mesh's servers know when it was changed, and by whom\n"
}

// meshPolicyNames completes with policies that a change can name.
func meshPolicyNames(a *app) completion {
	return namesOf(a, func(ctx context.Context, c *api.Client) ([]string, error) {
		policies, err := c.Policies(ctx)
		var out []string
		for _, p := range policies {
			if p.File == "" {
				out = append(out, p.ID)
			}
		}
		return out, err
	})
}
