package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/observe"
)

// defaultLast is how many flows are shown when nothing says which.
const defaultLast = 20

func newObserve(a *app) *cobra.Command {
	var (
		q     observe.Query
		since string
		all   bool
	)
	cmd := &cobra.Command{
		Use:   "observe",
		Short: "Show flows, with the verdict and the rule that decided",
		Long: `observe shows what the datapath of this host reported: the verdict on the first
packet of each flow, and every drop with its reason. It shows the last 20 flows
that match, or with --follow those that come from now on.

--from and --to take labels (label=app=web,tier=x; also key!=value, key and !key),
an address, a prefix, or the name of a host, with or without its cluster.`,
		Example: `  plexus observe --follow
  plexus observe --verdict DROPPED --last 5
  plexus observe --from label=app=web --to 10.210.0.0/16 --port 5432 --protocol tcp
  plexus observe --verdict FORWARDED --staged-verdict DROPPED
  plexus observe --since 5m -o json`,
		Args: noArgs,
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with new flows until interrupted")
	f.IntVar(&q.Last, "last", 0, "show the newest `N` recorded flows that match (default 20; with --follow or --since: none or all)")
	f.BoolVar(&all, "all", false, "show every recorded flow that matches")
	f.StringVar(&since, "since", "", "only flows since then: a `duration` before now (5m) or a time (RFC 3339)")
	f.StringVar(&q.Verdict, "verdict", "", "only flows with this verdict: FORWARDED or DROPPED")
	f.StringVar(&q.StagedVerdict, "staged-verdict", "", "only flows to which staged rules would give this verdict")
	f.StringVar(&q.From, "from", "", "only flows from `WHOM`")
	f.StringVar(&q.To, "to", "", "only flows to `WHOM`")
	f.Uint16Var(&q.Port, "port", 0, "only flows to this destination port")
	f.StringVar(&q.Protocol, "protocol", "", "only flows of this protocol: TCP, UDP, SCTP, ICMP, ICMPv6")
	cmd.MarkFlagsMutuallyExclusive("all", "last")
	completeObserve(cmd)
	p := &flowPrinter{format: choice{formatCompact, []string{formatCompact, formatDict, formatJSON, formatTable}}}
	f.VarP(&p.format, "output", "o", "output format")
	mustComplete(cmd, "output", p.format.complete)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if q.Since, err = parseSince(since, time.Now()); err != nil {
			return asUsage(err)
		}
		if q.Last < 0 {
			return usagef("--last %d is negative", q.Last)
		}
		q.Last = lastOf(q, cmd.Flags().Changed("last"), all)
		if err := q.Validate(); err != nil {
			return asUsage(err)
		}
		p.start(cmd.OutOrStdout())
		return show(cmd, a, q, p)
	}
	return cmd
}

func completeObserve(cmd *cobra.Command) {
	for _, flag := range []string{"verdict", "staged-verdict"} {
		mustComplete(cmd, flag, (&choice{of: []string{observe.Forwarded, observe.Dropped}}).complete)
	}
	mustComplete(cmd, "protocol", (&choice{of: []string{"TCP", "UDP", "SCTP", "ICMP", "ICMPv6"}}).complete)
}

// lastOf says how many recorded flows are asked for, as Query counts them.
func lastOf(q observe.Query, given, all bool) int {
	switch {
	case all:
		return 0
	case given && q.Last == 0:
		return -1
	case given:
		return q.Last
	case !q.Since.IsZero():
		return 0
	case q.Follow:
		return -1
	}
	return defaultLast
}

// parseSince reads a duration before now, or a time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("--since %q is malformed: want a duration like 5m, or a time like %s", s, now.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// errEnded says that a stream which should not end did.
var errEnded = errors.New("plexusd ended the stream: it has stopped")

// show prints flows as they come.
func show(cmd *cobra.Command, a *app, q observe.Query, p *flowPrinter) error {
	for f, err := range a.client().Observe(cmd.Context(), q) {
		var lost *observe.LostError
		switch {
		case errors.As(err, &lost):
			fmt.Fprintln(cmd.ErrOrStderr(), "plexus:", lost)
			continue
		case err != nil:
			return err
		}
		if err := p.print(&f); err != nil {
			return err
		}
	}
	switch {
	case cmd.Context().Err() != nil && q.Follow:
		return nil // asked to stop, as following always ends
	case q.Follow:
		return errEnded
	}
	return p.end()
}
