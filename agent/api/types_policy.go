package api

import (
	"net/netip"
	"time"
)

// Policy is one document of the mesh's policy, or of the asked host's own files. A
// host that is no server knows the document alone: its revision is 0 there, author
// and changed are absent, as they are of what is in files.
type Policy struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace,omitempty"`
	Kind      string    `json:"kind"`
	ID        string    `json:"id"`       // what commands name it by; see policy.Policy.ID
	Revision  uint64    `json:"revision"` // of the mesh's policies when it was last changed
	Author    string    `json:"author,omitempty"`
	Changed   time.Time `json:"changed,omitzero"`
	Selects   []string  `json:"selects"` // hosts that some rule of it selects
	Source    string    `json:"source,omitempty"`
	File      string    `json:"file,omitempty"` // of this host, that holds it; absent for a policy of the mesh
}

// PolicyFile is one file of policy documents.
type PolicyFile struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Terminal is the connection over which a person types, seen from this host.
type Terminal struct {
	Remote netip.Addr `json:"remote"`
	Port   uint16     `json:"port"` // TCP, on this host
}

// ReviewRequest asks what a change of policy would do, and makes none.
type ReviewRequest struct {
	Files      []PolicyFile `json:"files"`
	Delete     []string     `json:"delete"` // IDs of policies
	AllowEmpty bool         `json:"allowEmpty"`
	// Terminal is absent where nobody types, or not over the network.
	Terminal *Terminal `json:"terminal,omitempty"`
}

// Review is what a change of policy would do.
type Review struct {
	Revision uint64         `json:"revision"` // that the change starts from
	Policies []PolicyChange `json:"policies"`
	Findings []Finding      `json:"findings"` // an error among them refuses the change
	Hosts    []HostChange   `json:"hosts"`    // those that it changes something for
	Cuts     []Cut          `json:"cuts"`     // what it could cut off; then it should be on trial first
}

// Severities of a Finding.
const (
	SeverityError   = "error"
	SeverityWarning = "warning"
)

// Finding is something in a policy that is most often a mistake.
type Finding struct {
	Severity string `json:"severity"`       // "error" or "warning"
	Code     string `json:"code"`           // stable, for machines
	Policy   string `json:"policy"`         // ID
	File     string `json:"file,omitempty"` // as it was given
	Line     int    `json:"line,omitempty"` // in the file, from 1
	Path     string `json:"path,omitempty"` // of the field, for example "spec.ingress[0]"
	Text     string `json:"text"`
}

// HostChange is what a change of policy does to one host. The numbers count
// verdict entries, of which the kernel's policy map has one each.
type HostChange struct {
	Host    string   `json:"host"`
	Before  int      `json:"before"`
	After   int      `json:"after"`
	Added   int      `json:"added"`
	Removed int      `json:"removed"`
	Changed int      `json:"changed"`
	Lines   []string `json:"lines"` // the same in words
}

// Cut is something that people or the mesh depend on and a change could end.
type Cut struct {
	Host string `json:"host"`
	What string `json:"what"`
}

// The shortest and the longest trial of an apply.
const (
	MinConfirmWithin = 10 * time.Second
	MaxConfirmWithin = time.Hour
)

// ApplyRequest changes the mesh's policies: all that it names, or nothing.
type ApplyRequest struct {
	Files  []PolicyFile `json:"files"`
	Delete []string     `json:"delete"` // IDs of policies
	// AllowEmpty accepts a policy that selects no host.
	AllowEmpty bool `json:"allowEmpty"`
	// ConfirmWithin, in nanoseconds, puts the change on trial: unless it is
	// confirmed by then, every host puts the policy before back by itself. 0
	// for no trial, else from MinConfirmWithin to MaxConfirmWithin.
	ConfirmWithin time.Duration `json:"confirmWithin"`
	// Base is the revision that was reviewed; the change is refused if there has
	// been another since. Absent for a change of whatever there is.
	Base    *uint64 `json:"base,omitempty"`
	Message string  `json:"message"` // why, for the history
}

// ApplyResult says what was changed.
type ApplyResult struct {
	Revision uint64         `json:"revision"`
	Policies []PolicyChange `json:"policies"`
	Pending  *Pending       `json:"pending,omitempty"` // only of a change on trial
}

// PolicyChange is what happens to one policy.
type PolicyChange struct {
	Name    string   `json:"name"`   // ID
	Change  string   `json:"change"` // "created", "updated", "unchanged" or "deleted"
	Selects []string `json:"selects"`
}

// Pending is a revision on trial.
type Pending struct {
	Revision  uint64    `json:"revision"`
	ConfirmBy time.Time `json:"confirmBy"` // when it is taken back unless it is confirmed
	Seconds   int64     `json:"seconds"`   // until then, when it was asked
}

// ConfirmRequest keeps what is on trial.
type ConfirmRequest struct {
	Revision uint64 `json:"revision"` // 0 for whichever is on trial
}

// RollbackRequest undoes changes by a new one.
type RollbackRequest struct {
	// To is the revision to go back to; 0 for the one before the last, and where
	// one is on trial for what was before it.
	To uint64 `json:"to"`
}

// States of a Revision.
const (
	StateInForce    = "in force"    // the last, or confirmed and the last
	StatePending    = "pending"     // the last, on trial
	StateConfirmed  = "confirmed"   // its trial ended well; others followed
	StateRolledBack = "rolled back" // others undid it
	StateReplaced   = "replaced"    // it had no trial; others followed
)

// Revision is one change of the mesh's policies.
type Revision struct {
	Revision  uint64          `json:"revision"`
	Author    string          `json:"author"`
	Time      time.Time       `json:"time"`
	Action    string          `json:"action"` // "apply", "delete" or "rollback"
	State     string          `json:"state"`
	Changes   []RevisedPolicy `json:"changes"`
	ConfirmBy time.Time       `json:"confirmBy,omitzero"` // of one on trial
	Of        uint64          `json:"of,omitempty"`       // of a rollback: the newest revision that it undid
	To        uint64          `json:"to,omitempty"`       // of a rollback: the revision that it went back to; 0 for before the first
	Expired   bool            `json:"expired,omitempty"`  // of a rollback: nobody had confirmed Of in time
	Message   string          `json:"message,omitempty"`
}

// RevisedPolicy is one policy that a revision changed.
type RevisedPolicy struct {
	Name   string `json:"name"`   // ID
	Change string `json:"change"` // "created", "updated" or "deleted"
}

// DisarmRequest suspends policy on this host.
type DisarmRequest struct {
	Reason string `json:"reason"` // in words, for status; may be empty
}

// Disarmed says that policy is suspended on this host.
type Disarmed struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// Armed says that policy is in force on this host.
type Armed struct {
	Before *Disarmed `json:"before,omitempty"` // that arm ended; absent where policy was in force already
}
