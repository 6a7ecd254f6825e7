package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/scenario"
)

func newPolicyExplain(a *app) *cobra.Command {
	var (
		r     api.ExplainRequest
		names []string
	)
	cmd := &cobra.Command{
		Use:   "explain --from X --to Y --port PORT/PROTOCOL",
		Short: "Say what policy decides about a flow, and why",
		Long: `explain asks this host's daemon what the mesh's policy says to a new flow, where it
begins and where it ends, and which rule decides. X and Y are a host, an address, or
labels. With -f it answers as if these documents were applied: each takes the place
of the policy with its name.

What passes whatever policy says, and policies of a host's own files, are known of
the host alone that is asked.`,
		Example: `  plexus policy explain --from web-1 --to db-1 --port 5432/TCP
  plexus policy explain --from 203.0.113.7 --to app=db,tier=gold --port pg/TCP
  plexus policy explain --from web-1 --to db-1 --icmp EchoRequest --family IPv6
  plexus policy explain --from web-1 --to db-1 --port 22/TCP -f db.yaml -o json`,
		Args: filesByFlag,
	}
	f := cmd.Flags()
	f.StringVar(&r.From, "from", "", "where the flow begins: a `host`, an address, or labels such as app=web,tier=gold")
	f.StringVar(&r.To, "to", "", "where the flow ends: a `host`, an address, or labels")
	f.StringVar(&r.Port, "port", "", "destination `port`, 443/TCP or pg/TCP, or a protocol such as GRE")
	f.StringVar(&r.ICMP, "icmp", "", "`type` of ICMP by number or name, instead of a port")
	f.StringVar(&r.Family, "family", "", "IPv4 or IPv6, for --icmp (default IPv4)")
	f.StringArrayVarP(&names, "filename", "f", nil, "policy `file`, directory, or - for standard input, to explain instead of what is applied; repeat for more")
	_ = cmd.MarkFlagRequired("from") // these are defined above
	_ = cmd.MarkFlagRequired("to")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json")
	mustComplete(cmd, "family", cobra.FixedCompletions([]string{"IPv4", "IPv6"}, cobra.ShellCompDirectiveNoFileComp))
	for _, flag := range []string{"port", "icmp"} {
		mustComplete(cmd, flag, cobra.NoFileCompletions)
	}
	hosts := mapped((*api.Client).Nodes, func(n api.Node) string { return n.Name })
	for _, side := range []string{"from", "to"} {
		mustComplete(cmd, side, namesOf(a, hosts))
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := checkQuestion(r); err != nil {
			return asUsage(err)
		}
		if r.Files, err = readPolicies(cmd.InOrStdin(), names); err != nil {
			return err
		}
		e, err := a.client().Explain(cmd.Context(), r)
		if err != nil {
			return err
		}
		return p.print(cmd.OutOrStdout(), e, func(w io.Writer) error { return writeExplanation(w, e) })
	}
	return cmd
}

// checkQuestion finds what no daemon could understand.
func checkQuestion(r api.ExplainRequest) error {
	var errs []error
	for flag, text := range map[string]string{"--from": r.From, "--to": r.To} {
		if _, err := scenario.ParseParty(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
	}
	if r.ICMP == "" && r.Family != "" {
		errs = append(errs, errors.New("--family is for --icmp: leave it out"))
	}
	return errors.Join(append(errs, checkFlow(r))...)
}

func checkFlow(r api.ExplainRequest) error {
	switch {
	case r.Port == "" && r.ICMP == "":
		return errors.New("a port is missing: give --port, such as 443/TCP, or --icmp")
	case r.Port != "" && r.ICMP != "":
		return errors.New("--port and --icmp are given: choose one")
	case isNumber(r.Port):
		return fmt.Errorf("--port %s names no protocol: write %[1]s/TCP or %[1]s/UDP", r.Port)
	}
	_, err := r.Flow()
	return err
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

func writeExplanation(w io.Writer, e api.Explanation) error {
	c := newPalette(w)
	verdict := c.good(e.Verdict)
	if e.Verdict != api.VerdictAllow {
		verdict = c.bad(e.Verdict)
	}
	fmt.Fprintln(w, verdict)
	writeJudgements(w, "  ", e.Directions, e.Notes)
	return nil
}

// writeJudgements writes what hosts say to a flow, one a line.
func writeJudgements(w io.Writer, indent string, js []api.Judgement, notes []string) {
	for _, j := range js {
		arrow := "to"
		if j.Direction == policy.Ingress.String() {
			arrow = "from"
		}
		fmt.Fprintf(w, "%s%s at %s, %s %s: %s%s\n", indent, j.Direction, j.Host, arrow, j.Peer, j.Why, ruleNote(j))
		if s := j.Staged; s != nil {
			fmt.Fprintf(w, "%s  with staged rules: %s\n", indent, expectation(s.Verdict, &s.Rule))
		}
	}
	for _, n := range notes {
		fmt.Fprintf(w, "%snote: %s\n", indent, n)
	}
}

// ruleNote says where a rule stands and what it is for.
func ruleNote(j api.Judgement) string {
	out := ""
	switch {
	case j.File != "":
		out = fmt.Sprintf(" (%s:%d)", j.File, j.Line)
	case j.Line > 0:
		out = fmt.Sprintf(" (line %d)", j.Line)
	}
	if j.Description != "" {
		out += ", " + j.Description
	}
	return out
}
