package main

import (
	"context"
	"fmt"

	"github.com/plexusmesh/plexus/agent/api"
)

// Explain answers always the same, with everything that an answer can hold.
func (d fakeDaemon) Explain(_ context.Context, r api.ExplainRequest) (api.Explanation, error) {
	files := []string{}
	for _, f := range r.Files {
		files = append(files, fmt.Sprintf("%s:%d", f.Name, len(f.Data)))
	}
	return api.Explanation{
		Verdict: api.VerdictDeny,
		Directions: []api.Judgement{
			{Direction: "egress", Host: "web-1", Peer: "db-1", Verdict: api.VerdictAllow, Why: "allowed by web-out egress[0]",
				Rule: "web-out egress[0]", Line: 7, Description: "the web may call"},
			{Direction: "ingress", Host: "db-1", Peer: "web-1", Verdict: api.VerdictDeny, Why: "denied: policy db selects db-1 for ingress, and no rule allows this",
				Staged: &api.StagedJudgement{Verdict: api.VerdictAllow, Rule: "soon ingress[0]"}},
		},
		Notes: []string{"what passes on db-1 is known there alone"},
	}, d.note("explain", map[string]any{"from": r.From, "to": r.To, "port": r.Port, "icmp": r.ICMP, "family": r.Family, "files": files})
}
