package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/plexusmesh/plexus/observe"
)

// Formats of observe, besides json and table.
const (
	formatCompact = "compact"
	formatDict    = "dict"
)

// flowTime is how people read the time of a flow, as in Hubble.
const flowTime = "Jan _2 15:04:05.000"

// flowPrinter writes flows one by one, so that a follower sees each at once.
type flowPrinter struct {
	format  choice
	out     io.Writer
	palette palette
	rows    int
}

func (p *flowPrinter) start(w io.Writer) { p.out, p.palette = w, newPalette(w) }

func (p *flowPrinter) print(f *observe.Flow) error {
	var err error
	switch p.format.value {
	case formatJSON:
		enc := json.NewEncoder(p.out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(f)
	case formatDict:
		_, err = io.WriteString(p.out, p.dict(f))
	case formatTable:
		err = p.row(f)
	default:
		_, err = fmt.Fprintln(p.out, p.compact(f))
	}
	p.rows++
	return err
}

// end writes what a table without rows has.
func (p *flowPrinter) end() error {
	if p.format.value == formatTable && p.rows == 0 {
		return p.head()
	}
	return nil
}

// compact is one line: TIME [NODE] SOURCE -> DESTINATION PROTOCOL VERDICT (reason; rule).
func (p *flowPrinter) compact(f *observe.Flow) string {
	line := fmt.Sprintf("%s [%s] %s -> %s %s %s", f.Time.Local().Format(flowTime), f.Node,
		side(f.Source), side(f.Destination), transport(f), p.verdict(f))
	if why := because(f); why != "" {
		line += " (" + why + ")"
	}
	return line
}

// side is an endpoint with who it is: 10.210.0.1:443 (app=web 459008).
func side(e observe.Endpoint) string {
	who := strings.Join(append(shortLabels(e.Labels), fmt.Sprint(e.Identity)), " ")
	return fmt.Sprintf("%s (%s)", address(e), who)
}

// address is an IP address, with its port if there is one.
func address(e observe.Endpoint) string {
	if e.Port == 0 {
		return e.IP
	}
	return net.JoinHostPort(e.IP, fmt.Sprint(e.Port))
}

func transport(f *observe.Flow) string {
	switch {
	case f.ICMPType != nil:
		return fmt.Sprintf("%s type %d", f.Protocol, *f.ICMPType)
	case len(f.TCPFlags) > 0:
		return f.Protocol + " " + commas(f.TCPFlags)
	}
	return f.Protocol
}

func (p *flowPrinter) verdict(f *observe.Flow) string {
	if f.Verdict == observe.Dropped {
		return p.palette.bad(f.Verdict)
	}
	return p.palette.good(f.Verdict)
}

// because says why: the reason of a drop, the rule that decided, and what staged
// rules would change.
func because(f *observe.Flow) string {
	var parts []string
	for _, s := range []string{f.DropReason, ruleOf(f), staged(f)} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "; ")
}

// ruleOf is the rule that decided, with what its policy wants shown: db ingress[0] "audited".
func ruleOf(f *observe.Flow) string {
	if f.PolicyLog == "" {
		return f.Rule
	}
	return fmt.Sprintf("%s %q", f.Rule, f.PolicyLog)
}

// staged says what staged rules would make of a flow, where that differs from
// what happened to it.
func staged(f *observe.Flow) string {
	if f.StagedVerdict == "" || f.StagedVerdict == f.Verdict {
		return ""
	}
	return strings.TrimSuffix("staged: "+f.StagedVerdict+" by "+f.StagedRule, " by ")
}

// dict is a block with one field a line.
func (p *flowPrinter) dict(f *observe.Flow) string {
	var b strings.Builder
	if p.rows > 0 {
		b.WriteString("------------\n")
	}
	for _, row := range [][2]string{
		{"TIMESTAMP", f.Time.Local().Format(flowTime)},
		{"NODE", f.Node},
		{"SOURCE", side(f.Source)},
		{"DESTINATION", side(f.Destination)},
		{"PROTOCOL", transport(f)},
		{"DIRECTION", direction(f)},
		{"VERDICT", p.verdict(f)},
		{"REASON", f.DropReason},
		{"RULE", ruleOf(f)},
		{"STAGED", strings.TrimSpace(f.StagedVerdict + " " + f.StagedRule)},
		{"INTERFACE", f.Interface},
		{"ENCRYPTED", yesNo(f.Encrypted)},
	} {
		fmt.Fprintf(&b, "%11s: %s\n", row[0], orDash(row[1]))
	}
	return b.String()
}

func direction(f *observe.Flow) string {
	if f.Reply {
		return f.Direction + ", reply"
	}
	return f.Direction
}

// flowRow has fixed widths: a stream cannot know the widest cell to come.
const flowRow = "%-19s  %-12s  %-26s  %-26s  %-12s  %-9s  %s\n"

func (p *flowPrinter) head() error {
	_, err := fmt.Fprintf(p.out, flowRow, "TIME", "NODE", "SOURCE", "DESTINATION", "PROTOCOL", "VERDICT", "WHY")
	return err
}

func (p *flowPrinter) row(f *observe.Flow) error {
	if p.rows == 0 {
		if err := p.head(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(p.out, flowRow, f.Time.Local().Format(flowTime), f.Node, address(f.Source), address(f.Destination),
		transport(f), f.Verdict, orDash(because(f)))
	return err
}
