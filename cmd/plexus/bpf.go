package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

func newBPF(a *app) *cobra.Command {
	return group(&cobra.Command{
		Use:   "bpf",
		Short: "Show what the kernel holds",
		Long: `These commands read the maps that the datapath works from, through the daemon. What
they show is in force, whatever anything else says.`,
		Example: "  plexus bpf policy list\n  plexus bpf ct list -o json",
	},
		newMap("ipcache", "Which identity the kernel knows an address by", newMapList(a, ipcacheList)),
		newMap("policy", "The verdicts that the kernel gives", newMapList(a, policyMapList)),
		newMap("ct", "The connections that the kernel tracks", newMapList(a, flowList)),
		newMap("metrics", "The datapath's packet counters", newMapList(a, counterList)),
		newMap("tables", "How full the datapath's tables are", newMapList(a, tableList)))
}

// newMap holds the command that lists a map, for others to come beside it.
func newMap(name, short string, list *cobra.Command) *cobra.Command {
	return group(&cobra.Command{
		Use: name, Short: short, Long: short + ": see plexus bpf " + name + " list.", Example: list.Example,
	}, list)
}

// mapList describes the command that lists one kind of kernel entry.
type mapList[T any] struct {
	name, short, long string
	list              func(*api.Client, context.Context) ([]T, error)
	columns           []column[T]
}

func newMapList[T any](a *app, m mapList[T]) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   m.short,
		Long:    m.long,
		Example: fmt.Sprintf("  plexus bpf %s list\n  plexus bpf %s list -o json", m.name, m.name),
		Args:    noArgs,
	}
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		entries, err := m.list(a.client(), cmd.Context())
		if err != nil {
			return err
		}
		return printList(p, cmd.OutOrStdout(), entries, m.columns)
	}
	return cmd
}

var ipcacheList = mapList[api.IPCacheEntry]{
	name:  "ipcache",
	short: "List addresses with their identities",
	long: `list shows every prefix that the kernel knows. The longest one that covers an address
gives its identity.`,
	list: (*api.Client).IPCache,
	columns: []column[api.IPCacheEntry]{
		{head: "PREFIX", cell: func(e api.IPCacheEntry) string { return e.Prefix.String() }},
		{head: "IDENTITY", cell: func(e api.IPCacheEntry) string { return fmt.Sprint(e.Identity) }},
		{head: "FLAGS", cell: func(e api.IPCacheEntry) string { return commas(e.Flags) }},
		{head: "LABELS", cell: func(e api.IPCacheEntry) string { return commas(shortLabels(e.Labels)) }},
	},
}

var policyMapList = mapList[api.PolicyEntry]{
	name:  "policy",
	short: "List verdicts by identity, protocol and port",
	long: `list shows the policy map. A new flow is looked up by its peer's identity and by any
identity; it is denied if either entry denies or neither exists.`,
	list: (*api.Client).PolicyMap,
	columns: []column[api.PolicyEntry]{
		{head: "DIRECTION", cell: func(e api.PolicyEntry) string { return e.Direction }},
		{head: "IDENTITY", cell: func(e api.PolicyEntry) string { return anyIdentity(e.Identity) }},
		{head: "PROTOCOL", cell: func(e api.PolicyEntry) string { return e.Protocol }},
		{head: "PORTS", cell: func(e api.PolicyEntry) string { return e.Ports }},
		{head: "VERDICT", cell: func(e api.PolicyEntry) string { return e.Verdict }},
		{head: "RULE", cell: func(e api.PolicyEntry) string { return e.Rule }},
		{head: "LABELS", cell: func(e api.PolicyEntry) string { return commas(shortLabels(e.Labels)) }},
	},
}

// anyIdentity shows the wildcard as a word.
func anyIdentity(id uint32) string {
	if id == 0 {
		return "any"
	}
	return fmt.Sprint(id)
}

var flowList = mapList[api.FlowEntry]{
	name:  "ct",
	short: "List tracked connections",
	long: `list shows the connection-tracking map: each flow with the rule and the policy
revision that judged it. An open flow is one that both sides went on with: no flood
makes it forgotten. The others give way when their table is full.`,
	list: (*api.Client).Flows,
	columns: []column[api.FlowEntry]{
		{head: "DIRECTION", cell: func(e api.FlowEntry) string { return e.Direction }},
		{head: "PROTOCOL", cell: func(e api.FlowEntry) string { return e.Protocol }},
		{head: "LOCAL", cell: func(e api.FlowEntry) string { return e.Local }},
		{head: "REMOTE", cell: func(e api.FlowEntry) string { return e.Remote }},
		{head: "IDENTITY", cell: func(e api.FlowEntry) string { return fmt.Sprint(e.Identity) }},
		{head: "STATE", cell: func(e api.FlowEntry) string { return e.State }},
		{head: "OPEN", cell: func(e api.FlowEntry) string { return yesNo(e.Open) }},
		{head: "EXPIRES", cell: func(e api.FlowEntry) string { return fmt.Sprintf("%ds", e.ExpiresSeconds) }},
		{head: "RX", cell: func(e api.FlowEntry) string { return traffic(e.RxPackets, e.RxBytes) }, wide: true},
		{head: "TX", cell: func(e api.FlowEntry) string { return traffic(e.TxPackets, e.TxBytes) }, wide: true},
		{head: "REVISION", cell: func(e api.FlowEntry) string { return fmt.Sprint(e.Revision) }, wide: true},
		{head: "RULE", cell: func(e api.FlowEntry) string { return e.Rule }},
	},
}

func traffic(packets, bytes uint64) string {
	return fmt.Sprintf("%d packets, %s", packets, byteSize(int64(bytes)))
}

var counterList = mapList[api.CounterEntry]{
	name:  "metrics",
	short: "List packet counters",
	long:  "list shows how many packets passed and how many were dropped, by reason, since the maps were made.",
	list:  (*api.Client).Counters,
	columns: []column[api.CounterEntry]{
		{head: "DIRECTION", cell: func(e api.CounterEntry) string { return e.Direction }},
		{head: "INTERFACE", cell: func(e api.CounterEntry) string { return e.Interface }},
		{head: "REASON", cell: func(e api.CounterEntry) string { return e.Reason }},
		{head: "PACKETS", cell: func(e api.CounterEntry) string { return fmt.Sprint(e.Packets) }},
		{head: "BYTES", cell: func(e api.CounterEntry) string { return fmt.Sprint(e.Bytes) }},
	},
}

var tableList = mapList[api.TableEntry]{
	name:  "tables",
	short: "List tables with how full they are",
	long: `list shows how many entries each table of the datapath has, as counted within the last
minutes, how many it can have, and what happens when it is full. plexus status warns
from 80% on.`,
	list: (*api.Client).Tables,
	columns: []column[api.TableEntry]{
		{head: "TABLE", cell: func(e api.TableEntry) string { return e.Table }},
		{head: "USED", cell: func(e api.TableEntry) string { return fmt.Sprint(e.Used) }},
		{head: "LIMIT", cell: func(e api.TableEntry) string { return fmt.Sprint(e.Max) }},
		{head: "TURNED AWAY", cell: func(e api.TableEntry) string { return fmt.Sprint(e.TurnedAway) }, wide: true},
		{head: "WHEN FULL", cell: func(e api.TableEntry) string { return e.WhenFull }},
	},
}
