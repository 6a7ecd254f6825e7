package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
)

// statusText is a status as people read it.
type statusText struct {
	api.Status
	palette palette
	now     time.Time
	wide    bool
}

func (s statusText) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		text := orDash(fmt.Sprintf(format, args...))
		fmt.Fprintf(tw, "%s\t%s\n", name, strings.ReplaceAll(text, "\n", "\n\t")) // more lines, in the same column
	}
	row("State", "%s", s.state())
	s.writeAlarms(row)
	row("Version", "%s", s.Version)
	if s.Node.Name != "" {
		s.writeNode(row)
	}
	for _, src := range s.Sources {
		row("Source", "%s", s.source(src))
	}
	for _, warning := range s.Warnings {
		row(s.palette.bad(title(warning.Severity)), "%s (%s)", warning.Text, warning.Code)
	}
	if err := tw.Flush(); err != nil || len(s.Peers) == 0 {
		return err
	}
	fmt.Fprintln(w)
	return writeTable(w, s.Peers, shown(s.peerColumns(), s.wide))
}

// writeAlarms says loudly what makes policy other than the mesh has it.
func (s statusText) writeAlarms(row func(name, format string, args ...any)) {
	d := s.Datapath
	if d.Disarmed != nil {
		row(s.palette.bad("DISARMED"), "policy is suspended on this host since %s (%s) and denies nothing: plexus arm puts it in force again",
			stamp(d.Disarmed.Since), cmp.Or(d.Disarmed.Reason, "no reason given"))
	}
	if p := d.Pending; p != nil {
		row(s.palette.bad("ON TRIAL"), "policy revision %d, for %d s more, until %s: plexus policy confirm %d keeps it, plexus policy rollback undoes it",
			p.Revision, p.Seconds, stamp(p.ConfirmBy), p.Revision)
	}
	if d.Lapsed != 0 {
		row(s.palette.bad("TAKEN BACK"), "policy revision %d was not confirmed in time: what was before it is in force here", d.Lapsed)
	}
}

func (s statusText) writeNode(row func(name, format string, args ...any)) {
	n, d := s.Node, s.Datapath
	role := "member"
	if n.Server {
		role = "server"
	}
	row("Node", "%s, %s of mesh %s", n.Name, role, n.Cluster)
	row("Mesh addresses", "%s", addrs(n.MeshIPv4, n.MeshIPv6))
	row("Node addresses", "%s", addrs(n.Addresses...))
	row("Identity", "%d (%s)", n.Identity, strings.Join(shortLabels(n.Labels), ", "))
	row("Interfaces", "%s", strings.Join(d.Interfaces, ", "))
	row("WireGuard", "%s", d.WireGuard)
	row("Policy", "revision %d, %d entries, %d tracked connections", d.PolicyRevision, d.PolicyEntries, d.Flows)
	row("Posture", "%s", d.Posture)
	if d.SourceLimit > 0 {
		row("Source limit", "%d new flows a second from each address outside the mesh", d.SourceLimit)
	}
	if e := d.EarlyDrop; e != nil {
		row("Early drop", "%s", earlyDrop(e))
	}
}

// earlyDrop says on which interfaces XDP drops what is denied, and what it dropped.
func earlyDrop(e *api.EarlyDrop) string {
	text := fmt.Sprintf("%d denied prefixes on %s; %d packets, %d of them without an event",
		e.Prefixes, cmp.Or(strings.Join(e.Interfaces, ", "), "no interface"), e.Dropped, e.Unreported)
	for _, w := range e.Without {
		text += fmt.Sprintf("; not on %s: %s", w.Interface, w.Reason)
	}
	return text
}

func (s statusText) state() string {
	if s.State == stateReady {
		return s.palette.good(s.State)
	}
	return s.palette.bad(s.State)
}

func (s statusText) source(src api.SourceStatus) string {
	text := src.Name + ": not synced yet"
	if src.Synced {
		text = src.Name + ": synced"
	}
	if src.Error != "" {
		text += " (" + src.Error + ")"
	}
	return text
}

func (s statusText) peerColumns() []column[api.PeerStatus] {
	return []column[api.PeerStatus]{
		{head: "PEER", cell: func(p api.PeerStatus) string { return p.Name }},
		{head: "CLUSTER", cell: func(p api.PeerStatus) string { return p.Cluster }},
		{head: "MESH ADDRESSES", cell: func(p api.PeerStatus) string { return addrs(p.MeshIPv4, p.MeshIPv6) }, wide: true},
		{head: "STATE", cell: func(p api.PeerStatus) string { return p.State }},
		{head: "PATH", cell: func(p api.PeerStatus) string { return p.Path }},
		{head: "NODE TRAFFIC", cell: nodeTraffic},
		{head: "ENCRYPTED NODE ADDRESSES", cell: func(p api.PeerStatus) string { return addrs(p.NodeAddresses...) }, wide: true},
		{head: "ENDPOINT", cell: func(p api.PeerStatus) string { return p.Endpoint }},
		{head: "HANDSHAKE", cell: func(p api.PeerStatus) string { return ago(s.now, p.LastHandshake) }},
		{head: "RECEIVED", cell: func(p api.PeerStatus) string { return byteSize(p.RxBytes) }},
		{head: "SENT", cell: func(p api.PeerStatus) string { return byteSize(p.TxBytes) }},
	}
}

// nodeTraffic says what becomes of traffic between the node addresses of the
// two hosts.
func nodeTraffic(p api.PeerStatus) string {
	if len(p.NodeAddresses) > 0 {
		return "encrypted"
	}
	return "plaintext"
}

func ago(now time.Time, t *time.Time) string {
	if t == nil {
		return "never"
	}
	return now.Sub(*t).Round(time.Second).String() + " ago"
}

// title is a word with a capital, as the rows of status begin.
func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
