package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

// IPCache lists what the kernel knows of addresses.
func (a *agent) IPCache(context.Context) ([]api.IPCacheEntry, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	have, err := m.kernel.maps.IPCache.List()
	if err != nil {
		return nil, err
	}
	out := make([]api.IPCacheEntry, 0, len(have))
	for p, peer := range have {
		out = append(out, api.IPCacheEntry{Prefix: p, Identity: uint32(peer.Identity), Flags: flagNames(peer.Flags), Labels: m.names.Labels(peer.Identity)})
	}
	slices.SortFunc(out, func(a, b api.IPCacheEntry) int { return a.Prefix.Compare(b.Prefix) })
	return out, nil
}

func flagNames(f datapath.PeerFlags) []string {
	out := []string{}
	if f&datapath.PeerMesh != 0 {
		out = append(out, "mesh")
	}
	if f&datapath.PeerLocal != 0 {
		out = append(out, "local")
	}
	return out
}

// PolicyMap lists the verdicts that the kernel holds.
func (a *agent) PolicyMap(context.Context) ([]api.PolicyEntry, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	have, err := m.kernel.maps.Policy.List()
	if err != nil {
		return nil, err
	}
	out := make([]api.PolicyEntry, 0, len(have.Entries))
	for _, k := range slices.SortedFunc(maps.Keys(have.Entries), policy.Key.Compare) {
		e := have.Entries[k]
		out = append(out, api.PolicyEntry{
			Direction: k.Direction.String(), Identity: uint32(k.Identity), Labels: m.peerLabels(k),
			Protocol: policy.ProtocolName(k.Protocol), Ports: portsOf(k), Verdict: verdictName(e), Rule: m.names.Rule(e.Rule),
		})
	}
	return out, nil
}

func (m *member) peerLabels(k policy.Key) []string {
	if k.Identity == policy.AnyIdentity {
		return []string{"any"}
	}
	return m.names.Labels(k.Identity)
}

func verdictName(e policy.Entry) string {
	if e.Deny {
		return "deny"
	}
	return "allow"
}

// portsOf writes a block of ports as policy does.
func portsOf(k policy.Key) string {
	if k.PortBits == 0 {
		return "any"
	}
	last := k.Port | uint16(1<<(16-k.PortBits)-1)
	if last == k.Port {
		return fmt.Sprint(k.Port)
	}
	return fmt.Sprintf("%d-%d", k.Port, last)
}

// Flows lists the connections that the kernel tracks, the busiest first.
func (a *agent) Flows(context.Context) ([]api.FlowEntry, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	have, err := m.kernel.maps.Flows.List()
	if err != nil {
		return nil, err
	}
	out := make([]api.FlowEntry, 0, len(have))
	for _, f := range have {
		if f.Expires >= 0 { // what is over stays in the map until its place is needed
			out = append(out, m.flowEntry(f))
		}
	}
	slices.SortFunc(out, func(a, b api.FlowEntry) int {
		return cmp.Or(cmp.Compare(b.RxBytes+b.TxBytes, a.RxBytes+a.TxBytes), strings.Compare(a.Remote, b.Remote), strings.Compare(a.Local, b.Local))
	})
	return out, nil
}

func (m *member) flowEntry(f datapath.Flow) api.FlowEntry {
	return api.FlowEntry{
		Direction: f.Direction.String(), Protocol: policy.ProtocolName(f.Protocol),
		Local: f.Local.String(), Remote: f.Remote.String(), Identity: uint32(f.Identity),
		Rule: m.names.Rule(f.Rule), Revision: f.Revision, State: f.State, Open: f.Open, ExpiresSeconds: int64(f.Expires / time.Second),
		RxPackets: f.RxPackets, RxBytes: f.RxBytes, TxPackets: f.TxPackets, TxBytes: f.TxBytes,
	}
}

// Counters lists the packets that the datapath has counted.
func (a *agent) Counters(context.Context) ([]api.CounterEntry, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	have, err := m.kernel.maps.Counters.List()
	if err != nil {
		return nil, err
	}
	out := make([]api.CounterEntry, 0, len(have))
	for _, c := range have {
		link := "uplink"
		if c.Tunnel {
			link = "tunnel"
		}
		out = append(out, api.CounterEntry{Direction: c.Direction.String(), Interface: link, Reason: c.Reason, Packets: c.Packets, Bytes: c.Bytes})
	}
	return out, nil
}

// Pinholes lists what passes whatever policy says, and why.
func (a *agent) Pinholes(context.Context) ([]api.Pinhole, error) {
	m, err := a.joined()
	if err != nil {
		return nil, err
	}
	have, err := m.kernel.maps.Pinholes.List()
	if err != nil {
		return nil, err
	}
	desired, _ := m.plans()
	out := make([]api.Pinhole, 0, len(have))
	for _, p := range have {
		why := "left by an earlier run"
		if desired != nil && desired.Pinholes[p] != "" {
			why = desired.Pinholes[p]
		}
		out = append(out, api.Pinhole{Direction: p.Direction.String(), Protocol: policy.ProtocolName(p.Protocol), Port: p.Port, Remote: p.Remote, Why: why})
	}
	slices.SortFunc(out, func(a, b api.Pinhole) int {
		return cmp.Or(strings.Compare(a.Direction, b.Direction), strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port), a.Remote.Compare(b.Remote))
	})
	return out, nil
}
