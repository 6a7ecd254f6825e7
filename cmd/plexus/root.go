package main

import (
	"cmp"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath/probe"
)

// app is what all commands share.
type app struct {
	socket  string
	running bool // whether the command line was understood
	// probes are what doctor asks of this machine; nil for what Plexus needs.
	probes func(probe.Options) []probe.Probe
}

// client returns a client of the daemon that --socket names.
func (a *app) client() *api.Client { return api.NewClient(a.socket) }

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "plexus",
		Short: "Make, join, see and change a mesh of hosts",
		Long: `plexus speaks to the plexusd of this host: one network for virtual machines,
bare metal, edge hosts and Kubernetes clusters, encrypted, with policy by identity.

It needs root, because the daemon's socket answers root alone. Exit codes: 0 all
is well, 1 an error, 2 a mistake in the command line, 3 the host is not ready
(status) or lacks something (doctor), 4 a policy test did not pass.`,
		Example: `  plexus init --cluster-name demo --cluster-id 7
  plexus token create --label app=web
  plexus join --token-file /run/plexus-token
  plexus policy apply -f web.yaml
  plexus observe --follow --verdict DROPPED`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&a.socket, "socket", cmp.Or(os.Getenv("PLEXUS_SOCKET"), api.DefaultSocket),
		"socket of the plexusd to speak to (environment: PLEXUS_SOCKET)")
	root.AddCommand(newInit(a), newJoin(a), newLeave(a), newToken(a), newStatus(a), newNode(a), newIdentity(a),
		newPolicy(a), newDoctor(a), newDisarm(a), newArm(a), newBPF(a), newObserve(a), newVersion(), newCompletion())
	markRunning(a, root)
	return root
}

// markRunning lets run tell cobra's errors about the command line from those
// of the command itself.
func markRunning(a *app, cmd *cobra.Command) {
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return inner(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		markRunning(a, sub)
	}
}

// group makes cmd a command that only holds others.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q of %s", args[0], cmd.CommandPath())
		}
		return cmd.Help()
	}
	cmd.AddCommand(subs...)
	return cmd
}

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q", args[0])
	}
	return nil
}

// filesByFlag refuses arguments of commands that take files with -f.
func filesByFlag(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q: give policy files with -f", args[0])
	}
	return nil
}

// checkFirst has cmd check its flags before cobra does, whose words do not say
// what to type.
func checkFirst(cmd *cobra.Command, check func() error) {
	cmd.PreRunE = func(*cobra.Command, []string) error { return check() }
}

// someArgs wants at least one argument, each called what.
func someArgs(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s is missing", what)
		}
		if slices.Contains(args, "") {
			return usagef("%s is empty", what)
		}
		return nil
	}
}

// oneArg wants exactly one argument, called what.
func oneArg(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usagef("%s is missing", what)
		case len(args) > 1:
			return usagef("unexpected argument %q", args[1])
		case args[0] == "":
			return usagef("%s is empty", what)
		}
		return nil
	}
}
