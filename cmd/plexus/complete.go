package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

// completionTimeout is how long a shell waits for names.
const completionTimeout = 2 * time.Second

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// namesOf completes the first argument with names that the daemon knows. When
// it does not answer, there is nothing to propose.
func namesOf(a *app, list func(context.Context, *api.Client) ([]string, error)) completion {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		names, err := list(ctx, a.client())
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// moreOf completes every argument as f does the first, without those given.
func moreOf(f completion) completion {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		names, directive := f(cmd, nil, word)
		return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) }), directive
	}
}

// mapped turns a list of the API into names.
func mapped[T any](list func(*api.Client, context.Context) ([]T, error), name func(T) string) func(context.Context, *api.Client) ([]string, error) {
	return func(ctx context.Context, c *api.Client) ([]string, error) {
		items, err := list(c, ctx)
		var out []string
		for _, item := range items {
			out = append(out, name(item))
		}
		return out, err
	}
}

// mustComplete registers a completion for a flag that cmd has.
func mustComplete(cmd *cobra.Command, flag string, f completion) {
	// The only errors are that the flag does not exist or has one already; the
	// test of the command tree finds both.
	_ = cmd.RegisterFlagCompletionFunc(flag, f)
}

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes plexus commands in a shell",
		Long: `completion prints a script for the shell. It proposes commands, flags and, from
the running daemon, the names of hosts, identities, tokens and policies.`,
		Example: `  plexus completion bash > /etc/bash_completion.d/plexus
  plexus completion zsh > "${fpath[1]}/_plexus"
  plexus completion fish > ~/.config/fish/completions/plexus.fish`,
		Args:      oneArg("the name of a shell"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			}
			return usagef("shell %q is unknown: use bash, zsh or fish", args[0])
		},
	}
}
