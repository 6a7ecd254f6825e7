package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/observe"
)

// fakeDaemon is a Backend that a script steers by files in its directory:
// error.json is the answer to every call while it is there, status.json replaces
// the status and review.json the review, and every call but a plain read is added to requests, one a line.
type fakeDaemon struct{ dir string }

var _ api.Backend = fakeDaemon{}

func (d fakeDaemon) path(name string) string { return filepath.Join(d.dir, name) }

// fail returns what error.json says, if it is there.
func (d fakeDaemon) fail() error {
	data, err := os.ReadFile(d.path("error.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	e := &api.Error{}
	if err := errors.Join(err, json.Unmarshal(data, e)); err != nil {
		return err
	}
	return e
}

func (d fakeDaemon) note(call string, request any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(d.path("requests"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s %s\n", call, data)
	return errors.Join(err, f.Close(), d.fail())
}

var (
	noon      = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	mesh4     = netip.MustParseAddr("10.210.0.1")
	mesh6     = netip.MustParseAddr("fd00:7::1")
	nodeAddr  = netip.MustParseAddr("192.0.2.1")
	alphaTags = []string{"k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=demo", "k8s:io.cilium.k8s.policy.serviceaccount=default", "k8s:io.kubernetes.pod.namespace=default"}
	alpha     = api.NodeStatus{
		Name: "alpha", Cluster: "demo", MeshIPv4: mesh4, MeshIPv6: mesh6, Addresses: []netip.Addr{nodeAddr},
		Identity: 459008, Labels: alphaTags, Server: true,
	}
	newToken1 = api.TokenCreated{Token: "plexus1-secret", ID: "4f7a2c0011223344", Expires: noon.Add(time.Hour)}
)

func (d fakeDaemon) Status(context.Context) (api.Status, error) {
	if err := d.fail(); err != nil {
		return api.Status{}, err
	}
	if data, err := os.ReadFile(d.path("status.json")); err == nil {
		var s api.Status
		return s, json.Unmarshal(data, &s)
	}
	return api.Status{
		State: "ready", Version: "v1.2.3", Node: alpha,
		Peers: []api.PeerStatus{{
			Name: "beta", Cluster: "demo", MeshIPv4: netip.MustParseAddr("10.210.0.2"), Endpoint: "192.0.2.2:51871", Path: "direct",
			RxBytes: 1536, TxBytes: 5 << 30, State: "connected", NodeAddresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")},
		}, {Name: "gamma", Cluster: "demo", State: "new"}},
		Sources: []api.SourceStatus{{Name: "mesh", Synced: true}},
		Datapath: api.DatapathStatus{
			Interfaces: []string{"eth0", "plexus0"}, WireGuard: "kernel", PolicyRevision: 3, Posture: "open: no policy selects this host",
			PolicyEntries: 12, Flows: 5,
		},
	}, nil
}

func (d fakeDaemon) Init(_ context.Context, r api.InitRequest) (api.Joined, error) {
	return api.Joined{Node: alpha, Governed: true, Token: &newToken1}, d.note("init", r)
}

func (d fakeDaemon) Join(_ context.Context, r api.JoinRequest) (api.Joined, error) {
	n := alpha
	n.Name, n.Server = r.NodeName, false
	j := api.Joined{Node: n, Governed: r.NodeName != "slow"}
	if !j.Governed {
		j.Warnings = []api.Warning{{Code: "resource-failing", Severity: "error", Text: "ensure tunnel: no /dev/net/tun"}}
	}
	return j, d.note("join", r)
}

func (d fakeDaemon) Leave(_ context.Context, r api.LeaveRequest) error { return d.note("leave", r) }
func (d fakeDaemon) RemoveNode(_ context.Context, name string) error   { return d.note("remove", name) }
func (d fakeDaemon) RevokeToken(_ context.Context, id string) error    { return d.note("revoke", id) }
func (d fakeDaemon) CreateToken(_ context.Context, r api.TokenRequest) (api.TokenCreated, error) {
	return newToken1, d.note("token", r)
}

func (d fakeDaemon) Nodes(context.Context) ([]api.Node, error) {
	return []api.Node{
		{Name: "alpha", Cluster: "demo", Addresses: []netip.Addr{nodeAddr}, MeshIPv4: mesh4, MeshIPv6: mesh6, Identity: 459008,
			Labels: alphaTags, PublicKey: "a2V5", Port: 51871, Server: true, Version: "v1.2.3"},
		{Name: "beta", Cluster: "demo"},
	}, d.fail()
}

func (d fakeDaemon) Identities(context.Context) ([]api.Identity, error) {
	return []api.Identity{{ID: 459008, Labels: alphaTags, Nodes: []string{"alpha"}}}, d.fail()
}

func (d fakeDaemon) Tokens(context.Context) ([]api.Token, error) {
	return []api.Token{{ID: "4f7a2c0011223344", State: "valid", Created: noon, Expires: noon.Add(time.Hour), UsesLeft: 1,
		Labels: map[string]string{"tier": "front", "app": "web"}, Namespace: "default", Description: "yes"}}, d.fail()
}

func (d fakeDaemon) IPCache(context.Context) ([]api.IPCacheEntry, error) {
	return []api.IPCacheEntry{{Prefix: netip.MustParsePrefix("10.210.0.1/32"), Identity: 459008, Flags: []string{"mesh", "local"}, Labels: alphaTags}}, d.fail()
}

func (d fakeDaemon) PolicyMap(context.Context) ([]api.PolicyEntry, error) {
	return []api.PolicyEntry{{Direction: "ingress", Protocol: "TCP", Ports: "8000-8007", Verdict: "allow", Rule: "web ingress[0]"}}, d.fail()
}

func (d fakeDaemon) Flows(context.Context) ([]api.FlowEntry, error) {
	return []api.FlowEntry{{Direction: "egress", Protocol: "TCP", Local: "10.210.0.1:40000", Remote: "10.210.0.2:5432", Identity: 459009,
		Rule: "db ingress[0]", Revision: 4, State: "established", Open: true, ExpiresSeconds: 21600, RxPackets: 3, RxBytes: 180}}, d.fail()
}

func (d fakeDaemon) Counters(context.Context) ([]api.CounterEntry, error) {
	return []api.CounterEntry{{Direction: "ingress", Interface: "uplink", Reason: "denied by policy", Packets: 3, Bytes: 180}}, d.fail()
}

func (d fakeDaemon) Tables(context.Context) ([]api.TableEntry, error) {
	return []api.TableEntry{{Table: "open flows", Used: 262144, Max: 262144, WhenFull: "new flows can be forgotten", TurnedAway: 17}}, d.fail()
}

// Observe yields one allowed and one dropped flow. A follower is then told that
// it lost three, and the stream ends as if the daemon had stopped.
func (d fakeDaemon) Observe(_ context.Context, q observe.Query) iter.Seq2[observe.Flow, error] {
	since := !q.Since.IsZero()
	q.Since = time.Time{} // depends on the clock
	err := d.note("observe", map[string]any{"query": q, "since": since})
	return func(yield func(observe.Flow, error) bool) {
		if err != nil {
			yield(observe.Flow{}, err)
			return
		}
		for _, f := range flows() {
			if !yield(f, nil) {
				return
			}
		}
		if q.Follow {
			yield(observe.Flow{}, &observe.LostError{Count: 3})
		}
	}
}

func flows() []observe.Flow {
	echo := uint8(128)
	web := observe.Endpoint{IP: "10.210.0.1", Port: 40000, Identity: 459008, Labels: alphaTags, Node: "alpha"}
	world := observe.Endpoint{IP: "2001:db8::9", Identity: 2, Labels: []string{"reserved:world"}}
	return []observe.Flow{
		{Time: noon, Node: "alpha", Verdict: observe.Forwarded, StagedVerdict: observe.Dropped, StagedRule: "web-new egressDeny[0]", PolicyLog: "audited", Direction: "egress", Source: web,
			Destination: observe.Endpoint{IP: "10.210.0.2", Port: 5432, Identity: 459009, Labels: []string{"k8s:app=db"}, Node: "beta"},
			Protocol:    "TCP", TCPFlags: []string{"SYN"}, Rule: "web egress[0]", Interface: "plexus0", Encrypted: true, Bytes: 60},
		{Time: noon.Add(time.Second), Node: "alpha", Verdict: observe.Dropped, DropReason: "denied by policy", Direction: "ingress", Source: world,
			Destination: observe.Endpoint{IP: "2001:db8::1", Identity: 459008, Labels: alphaTags, Node: "alpha"},
			Protocol:    "ICMPv6", ICMPType: &echo, Interface: "eth0", Bytes: 104},
	}
}
