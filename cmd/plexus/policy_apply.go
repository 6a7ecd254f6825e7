package main

import (
	"github.com/spf13/cobra"
)

func newPolicyApply(a *app) *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or update policies",
		Long: `apply sends policy documents to the mesh: CiliumNetworkPolicy,
CiliumClusterwideNetworkPolicy, CiliumCIDRGroup and networking.k8s.io/v1
NetworkPolicy, in YAML. All of them are accepted, or none: a field that cannot be
enforced is refused with its name and line.

It first shows what "policy diff" shows: mistakes that it found, and what changes
host by host. Errors refuse the change, among them a policy that selects no host,
which most often leaves something open; --allow-empty accepts that one.

With --confirm-within the change is on trial: unless "policy confirm" comes in
time, every host puts the policy before back by itself, also while no server
answers. That is the default, with 60 s, for a person at a terminal whose change
could cut the connection that they type over, etcd or the join API; --no-confirm
turns it off.

A file may have 1 MiB. One apply changes at most 100 policies, and no more than 1.3 MiB
of documents, those that they replace included: apply more of them in several steps.`,
		Example: `  plexus policy apply -f web.yaml -f db.yaml
  plexus policy apply -f ./policies --confirm-within 2m --message "open the new port"
  plexus policy apply --dry-run -f web.yaml
  plexus policy apply --allow-empty -f - < web.yaml`,
		Args: filesByFlag,
	}
	addFilesFlag(cmd, &names)
	c := newChange(a, cmd)
	cmd.Flags().BoolVar(&c.allowEmpty, "allow-empty", false, "accept policies that select no host")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		files, err := readPolicies(cmd.InOrStdin(), names)
		if err != nil {
			return err
		}
		c.files = files
		return c.run(cmd)
	}
	return cmd
}

// addFilesFlag gives cmd the required flag -f.
func addFilesFlag(cmd *cobra.Command, names *[]string) {
	addFilesOption(cmd, names)
	_ = cmd.MarkFlagRequired("filename") // it is defined
	checkFirst(cmd, func() error {
		if len(*names) == 0 {
			return usagef("a policy file is missing: give it with -f")
		}
		return nil
	})
}

// addFilesOption gives cmd the flag -f.
func addFilesOption(cmd *cobra.Command, names *[]string) {
	cmd.Flags().StringArrayVarP(names, "filename", "f", nil, "policy `file`, directory, or - for standard input; repeat for more")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json") // it is defined above
}
