package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/token"
)

// maxTokenFile bounds a token file; a token has far fewer bytes.
const maxTokenFile = 16 << 10

func newJoin(a *app) *cobra.Command {
	var (
		h    host
		file string
	)
	cmd := &cobra.Command{
		Use:   "join TOKEN | join --token-file FILE",
		Short: "Make this host part of a mesh",
		Long: `join exchanges a token for a certificate of this host's own, once. The token names
the servers and the certificate authority, so that nothing else has to be known.

Arguments can be seen by every user of this host while the command runs, and
stay in the history of the shell: prefer --token-file, or "-" for standard input.`,
		Example: `  plexus join --token-file /run/plexus-token
  ssh alpha plexus token create | plexus join --token-file - --node-name beta
  plexus join plx1.EXAMPLE --advertise 192.0.2.2`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return usagef("unexpected argument %q", args[1])
			case len(args) == 1 && file != "":
				return usagef("a token and --token-file are given: choose one")
			case len(args) == 0 && file == "":
				return usagef("a token is missing: give it with --token-file, or as argument")
			}
			return nil
		},
	}
	h.addFlags(cmd)
	cmd.Flags().StringVar(&file, "token-file", "", "`file` that holds the token, - for standard input")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tok, err := readToken(cmd.InOrStdin(), args, file)
		if err != nil {
			return err
		}
		name, advertise, err := h.parse()
		if err != nil {
			return err
		}
		progress(cmd.ErrOrStderr(), "joining as %s ...", name)
		joined, err := a.client().Join(cmd.Context(), api.JoinRequest{Token: tok, NodeName: name, Advertise: advertise})
		if err != nil {
			return err
		}
		return printJoined(cmd, p, joined)
	}
	return cmd
}

// readToken returns the token from the argument or the file, without the white
// space around it, and refuses a damaged one. Its text stands in no error.
func readToken(stdin io.Reader, args []string, file string) (string, error) {
	var raw string
	if len(args) == 1 {
		raw = args[0]
	} else {
		data, err := readFile(stdin, file, maxTokenFile)
		if err != nil {
			return "", err
		}
		raw = string(data)
	}
	raw = strings.TrimSpace(raw)
	if raw == "" {
		return "", usagef("the token is empty: make one with plexus token create on a server")
	}
	if _, err := token.Parse(raw); err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return raw, nil
}
