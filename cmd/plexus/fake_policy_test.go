package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
)

func (d fakeDaemon) Policies(context.Context) ([]api.Policy, error) {
	return []api.Policy{
		{Name: "web", ID: "web", Kind: "CiliumClusterwideNetworkPolicy", Revision: 4, Author: "admin", Changed: noon, Selects: []string{"alpha"}, Source: "kind: CiliumClusterwideNetworkPolicy\n"},
		{Name: "web", Namespace: "prod", ID: "prod/web", Kind: "CiliumNetworkPolicy", Revision: 2, Author: "admin", Changed: noon},
		{Name: "ssh", ID: "local:ssh", Kind: "CiliumClusterwideNetworkPolicy", Selects: []string{"alpha"}, Source: "kind: x\n", File: "/etc/plexus/policies/ssh.yaml"},
	}, d.fail()
}

// sizes names files with their sizes.
func sizes(files []api.PolicyFile) []string {
	names := []string{}
	for _, f := range files {
		names = append(names, fmt.Sprintf("%s:%d", filepath.Base(f.Name), len(f.Data)))
	}
	return names
}

func changed(ids []string) []api.PolicyChange {
	out := []api.PolicyChange{}
	for _, id := range ids {
		out = append(out, api.PolicyChange{Name: id, Change: "deleted"})
	}
	if len(ids) == 0 {
		out = append(out, api.PolicyChange{Name: "web", Change: "created", Selects: []string{"alpha", "beta"}})
	}
	return out
}

func (d fakeDaemon) ReviewPolicies(_ context.Context, r api.ReviewRequest) (api.Review, error) {
	review := api.Review{
		Revision: 3, Policies: changed(r.Delete),
		Hosts: []api.HostChange{{Host: "alpha", Before: 2, After: 4, Added: 3, Removed: 1, Lines: []string{"ingress from app=web to 443/TCP: allowed"}}},
	}
	err := d.note("review", map[string]any{"files": sizes(r.Files), "delete": r.Delete, "allowEmpty": r.AllowEmpty, "terminal": r.Terminal})
	if data, missing := os.ReadFile(d.path("review.json")); err == nil && missing == nil {
		return review, json.Unmarshal(data, &review)
	}
	return review, err
}

func (d fakeDaemon) ApplyPolicies(_ context.Context, r api.ApplyRequest) (api.ApplyResult, error) {
	result := api.ApplyResult{Revision: 4, Policies: changed(r.Delete)}
	if r.ConfirmWithin > 0 {
		result.Pending = &api.Pending{Revision: 4, ConfirmBy: noon.Add(r.ConfirmWithin), Seconds: int64(r.ConfirmWithin / time.Second)}
	}
	return result, d.note("apply", map[string]any{
		"files": sizes(r.Files), "delete": r.Delete, "allowEmpty": r.AllowEmpty,
		"confirmWithin": r.ConfirmWithin.String(), "base": r.Base, "message": r.Message,
	})
}

func (d fakeDaemon) ConfirmPolicies(_ context.Context, r api.ConfirmRequest) (api.Revision, error) {
	return api.Revision{Revision: 4, Author: "root", Time: noon, Action: "apply", State: api.StateInForce}, d.note("confirm", r)
}

func (d fakeDaemon) RollbackPolicies(_ context.Context, r api.RollbackRequest) (api.ApplyResult, error) {
	return api.ApplyResult{Revision: 5, Policies: []api.PolicyChange{{Name: "web", Change: "deleted"}}}, d.note("rollback", r)
}

func (d fakeDaemon) PolicyHistory(context.Context) ([]api.Revision, error) {
	return []api.Revision{
		{Revision: 4, Author: "root", Time: noon, Action: "apply", State: api.StatePending, ConfirmBy: noon.Add(time.Minute), Message: "open the new port",
			Changes: []api.RevisedPolicy{{Name: "web", Change: "updated"}, {Name: "prod/web", Change: "deleted"}}},
		{Revision: 3, Author: "plexusd", Time: noon.Add(-time.Hour), Action: "rollback", Of: 2, To: 1, Expired: true, State: api.StateReplaced,
			Changes: []api.RevisedPolicy{{Name: "db", Change: "created"}}},
	}, d.fail()
}

func (d fakeDaemon) Disarm(_ context.Context, r api.DisarmRequest) (api.Disarmed, error) {
	return api.Disarmed{Since: noon, Reason: r.Reason}, d.note("disarm", r)
}

// Arm answers that policy was suspended, unless armed is in the directory.
func (d fakeDaemon) Arm(context.Context) (api.Armed, error) {
	if _, err := os.Stat(d.path("armed")); err == nil {
		return api.Armed{}, d.note("arm", nil)
	}
	return api.Armed{Before: &api.Disarmed{Since: noon, Reason: "drill"}}, d.note("arm", nil)
}

// Pinholes are none if unholed is in the directory.
func (d fakeDaemon) Pinholes(context.Context) ([]api.Pinhole, error) {
	if _, err := os.Stat(d.path("unholed")); err == nil {
		return nil, d.fail()
	}
	return []api.Pinhole{
		{Direction: "ingress", Protocol: "TCP", Port: 22, Remote: netip.MustParsePrefix("192.0.2.0/24"), Why: "sshd listens"},
		{Direction: "egress", Protocol: "UDP", Port: 67, Why: "DHCP server"},
	}, d.fail()
}
