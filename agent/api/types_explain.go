package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/policy/scenario"
)

// ExplainRequest asks what policy says to a new flow.
type ExplainRequest struct {
	From string `json:"from"` // a host, an address, or labels: "app=web,tier=gold"
	To   string `json:"to"`
	Port string `json:"port"` // "443/TCP", a name that a host declares, "pg/TCP", or a protocol, "GRE"
	// ICMP is a type by number or by name, instead of Port; Family is then "IPv4",
	// the default, or "IPv6".
	ICMP   string `json:"icmp"`
	Family string `json:"family"`
	// Files hold policies that take the place of those of the mesh with the same
	// ID, or join them, for this answer alone.
	Files []PolicyFile `json:"files"`
}

// Flow reads Port, or ICMP with Family.
func (r ExplainRequest) Flow() (scenario.Flow, error) {
	switch {
	case r.ICMP == "":
		return scenario.ParsePort(r.Port)
	case r.Port != "":
		return scenario.Flow{}, fmt.Errorf("port %q and ICMP type %q exclude each other: keep one", r.Port, r.ICMP)
	}
	protocol, port, err := policy.ParseICMP(cmp.Or(r.Family, "IPv4"), r.ICMP)
	return scenario.Flow{Protocol: protocol, Port: port}, err
}

// Verdicts of an Explanation.
const (
	VerdictAllow = "allow"
	VerdictDeny  = "deny"
	VerdictMixed = "mixed" // labels mean several sorts of hosts, and not all are judged alike
)

// Explanation says what policy says, and why.
type Explanation struct {
	Verdict    string      `json:"verdict"`
	Rule       string      `json:"rule"` // of the first judgement that has the verdict; may be empty
	Directions []Judgement `json:"directions"`
	Notes      []string    `json:"notes"` // what else a person should know
}

// Judgement is what one host says to a flow.
type Judgement struct {
	Direction   string `json:"direction"` // "egress" where the flow begins, "ingress" where it ends
	Host        string `json:"host"`      // that judges: its name, or labels
	Peer        string `json:"peer"`      // the other side
	Verdict     string `json:"verdict"`
	Why         string `json:"why"`         // in words
	Rule        string `json:"rule"`        // that decided; empty where none did
	File        string `json:"file"`        // of the rule; empty for one that the mesh stores
	Line        int    `json:"line"`        // of the rule, in File or in the document that "plexus policy get" prints
	Description string `json:"description"` // of the rule
	// Staged says what it would be if staged rules had effect; null where that is
	// the same.
	Staged *StagedJudgement `json:"staged"`
}

// StagedJudgement is what staged rules would change.
type StagedJudgement struct {
	Verdict string `json:"verdict"`
	Rule    string `json:"rule"`
}

// NewExplanation writes down an answer of package scenario.
func NewExplanation(a scenario.Answer) Explanation {
	e := Explanation{Verdict: string(a.Verdict), Rule: a.Rule.String(), Directions: []Judgement{}, Notes: append([]string{}, a.Notes...)}
	for _, j := range a.Judgements {
		e.Directions = append(e.Directions, newJudgement(j))
	}
	return e
}

func newJudgement(j scenario.Judgement) Judgement {
	out := Judgement{
		Direction: j.Direction.String(), Host: j.Host, Peer: j.Peer, Verdict: string(j.Verdict),
		Why: j.Why, Rule: j.Rule.String(), Line: j.Rule.Line, Description: j.Description,
	}
	if j.Policy != nil && j.Policy.File != "" {
		out.File, out.Line = j.Policy.File, j.Policy.FileLine(j.Rule.Line)
	}
	if j.Staged != nil {
		out.Staged = &StagedJudgement{Verdict: string(j.Staged.Verdict), Rule: j.Staged.Rule.String()}
	}
	return out
}

// Explain asks what policy says to a flow, and why.
func (c *Client) Explain(ctx context.Context, r ExplainRequest) (Explanation, error) {
	return call[Explanation](ctx, c, http.MethodPost, pathExplain, r)
}
