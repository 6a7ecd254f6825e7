package api

// ExplainRequest asks what policy says to a new flow.
type ExplainRequest struct {
	From string `json:"from"` // a host, an address, or labels: "app=web,tier=gold"
	To   string `json:"to"`
	Port string `json:"port"` // "443/TCP", a name that a host declares, "pg/TCP", or a protocol, "GRE"
	// ICMP is a type by number or by name, instead of Port; Family is then "IPv4"
	// or "IPv6".
	ICMP   string `json:"icmp"`
	Family string `json:"family"`
	// Files hold policies that take the place of those of the mesh with the same
	// ID, or join them, for this answer alone.
	Files []PolicyFile `json:"files"`
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
