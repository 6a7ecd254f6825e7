package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/token"
)

func newToken(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke join tokens",
		Long: `A token lets hosts join, and nothing else: it is exchanged for a certificate. It has
a lifetime and a number of uses, and the labels that its hosts get come from it.`,
		Example: "  plexus token create --uses 3\n  plexus token list",
	},
		newTokenCreate(a), newTokenList(a), newTokenRevoke(a))
}

func newTokenCreate(a *app) *cobra.Command {
	var (
		l labelled
		r api.TokenRequest
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a join token",
		Long: `create prints the token alone, so that it can be piped. It is shown this once: the
mesh keeps a hash of it. Hosts that join with it get its labels and namespace.`,
		Example: `  plexus token create --ttl 15m --label app=web --label tier=front
  plexus token create --uses 20 --description "build hosts" > token
  plexus token create -o json`,
		Args: noArgs,
	}
	l.addFlags(cmd)
	f := cmd.Flags()
	f.DurationVar(&r.TTL, "ttl", time.Hour, "how long hosts may join with it")
	f.IntVar(&r.Uses, "uses", 1, "how many hosts may join with it")
	f.BoolVar(&r.Ephemeral, "ephemeral", false, "for hosts that are short-lived (not supported yet)")
	f.BoolVar(&r.Server, "server", false, "for further servers of the control plane (not supported yet)")
	f.StringVar(&r.Description, "description", "", "what it is for")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		switch {
		case r.TTL < time.Second:
			return usagef("--ttl %v is too short: use at least one second", r.TTL)
		case r.Uses < 1:
			return usagef("--uses %d is too few: use at least 1", r.Uses)
		}
		r.Namespace = l.namespace
		if r.Labels, err = l.parse(); err != nil {
			return err
		}
		created, err := a.client().CreateToken(cmd.Context(), r)
		if err != nil {
			return err
		}
		return p.print(cmd.OutOrStdout(), created, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, created.Token)
			return err
		})
	}
	return cmd
}

var tokenColumns = []column[api.Token]{
	{head: "ID", cell: func(t api.Token) string { return t.ID }},
	{head: "STATE", cell: func(t api.Token) string { return t.State }},
	{head: "USES LEFT", cell: func(t api.Token) string { return fmt.Sprint(t.UsesLeft) }},
	{head: "EXPIRES", cell: func(t api.Token) string { return stamp(t.Expires) }},
	{head: "LABELS", cell: func(t api.Token) string { return labelMap(t.Labels) }},
	{head: "NAMESPACE", cell: func(t api.Token) string { return t.Namespace }, wide: true},
	{head: "EPHEMERAL", cell: func(t api.Token) string { return yesNo(t.Ephemeral) }, wide: true},
	{head: "CREATED", cell: func(t api.Token) string { return stamp(t.Created) }, wide: true},
	{head: "DESCRIPTION", cell: func(t api.Token) string { return t.Description }},
}

func newTokenList(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List join tokens, without their secrets",
		Long:    "list shows every token that the mesh knows of, also those that no host can join with any more.",
		Example: "  plexus token list\n  plexus token list -o json",
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		tokens, err := a.client().Tokens(cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), tokens, tokenColumns)
	}
	return cmd
}

// tokenArg wants the id of one token.
func tokenArg(cmd *cobra.Command, args []string) error {
	if err := oneArg("the id of a token")(cmd, args); err != nil {
		return err
	}
	return asUsage(token.ValidateID(args[0]))
}

func newTokenRevoke(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "revoke ID",
		Short:             "Make a join token worthless",
		Long:              "revoke takes the id that token list shows. Hosts that have joined with the token stay.",
		Example:           "  plexus token revoke 4f7a2c0011223344",
		Args:              tokenArg,
		ValidArgsFunction: namesOf(a, mapped((*api.Client).Tokens, func(t api.Token) string { return t.ID })),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client().RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", args[0])
			return err
		},
	}
}
