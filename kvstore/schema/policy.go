package schema

import (
	"strings"
	"time"
)

// Policy is a policy document as it was applied.
type Policy struct {
	Name     string    `json:"name"`
	Document string    `json:"document"` // YAML as given
	Revision uint64    `json:"revision"` // of the policies as a whole, when this one last changed
	Author   string    `json:"author,omitempty"`
	Time     time.Time `json:"time"`
}

// EncodePolicy renders a policy for [PolicyKey].
func EncodePolicy(p Policy) ([]byte, error) { return encode(p) }

// DecodePolicy reads the policy found under that name.
func DecodePolicy(name string, value []byte) (Policy, error) {
	key := PolicyKey(name)
	p, err := decode[Policy](key, value)
	if err != nil {
		return Policy{}, err
	}
	if p.Name != name || name == "" {
		return Policy{}, refuse(key, "name", "is %q, unlike the key", p.Name)
	}
	return p, nil
}

// What a [PolicyRevision] did.
const (
	ActionApply    = "apply"    // stored documents; it may have deleted others
	ActionDelete   = "delete"   // deleted documents only
	ActionRollback = "rollback" // took one or more revisions back
)

// How a [PolicyRevision] of the past ended.
const (
	StateConfirmed  = "confirmed"   // it was on trial and was confirmed
	StateReplaced   = "replaced"    // it stood from the start, until the next one
	StateRolledBack = "rolled back" // the next one took it back
)

// What a [PolicyRevision] does to a document.
const (
	ChangeCreated = "created"
	ChangeUpdated = "updated"
	ChangeDeleted = "deleted"
)

// MaxWindow is how long a revision may be on trial.
const MaxWindow = time.Hour

// PolicyRevision is one change of the policies as a whole.
type PolicyRevision struct {
	Revision uint64    `json:"revision"` // counts the changes
	Author   string    `json:"author,omitempty"`
	Time     time.Time `json:"time"`
	Message  string    `json:"message,omitempty"` // why, in the author's words
	Action   string    `json:"action,omitempty"`

	Of      uint64 `json:"of,omitempty"`      // of a rollback: the newest revision that it took back
	To      uint64 `json:"to,omitempty"`      // of a rollback: the revision whose documents it restored
	Expired bool   `json:"expired,omitempty"` // of a rollback: nobody asked, the window of Of had closed

	// WindowSeconds is how long the revision is on trial; 0 once it stands. Hosts
	// count it from when they see the revision, the servers until ConfirmBy.
	WindowSeconds uint32    `json:"windowSeconds,omitempty"`
	ConfirmBy     time.Time `json:"confirmBy,omitzero"`    // zero exactly if WindowSeconds is
	Unconfirmed   bool      `json:"unconfirmed,omitempty"` // in the history: its trial was not confirmed
	ConfirmedBy   string    `json:"confirmedBy,omitempty"` // who ended the trial well; "" if there was none

	State   string         `json:"state,omitempty"` // how it ended; "" of the newest
	Changes []PolicyChange `json:"changes,omitempty"`
}

// Pending reports whether the revision is on trial.
func (r PolicyRevision) Pending() bool { return r.WindowSeconds > 0 }

// Window is how long the revision is on trial; 0 for one that stands.
func (r PolicyRevision) Window() time.Duration { return time.Duration(r.WindowSeconds) * time.Second }

// PolicyChange is what a revision did to one document.
type PolicyChange struct {
	Name   string `json:"name"` // policy.Policy.ID
	Change string `json:"change"`
	Before string `json:"before,omitempty"` // the document until then; "" if there was none
}

// EncodePolicyRevision renders it for [PolicyRevisionKey] and
// [PolicyHistoryKey].
func EncodePolicyRevision(r PolicyRevision) ([]byte, error) { return encode(r) }

// DecodePolicyRevision reads the value of that key. It refuses what could not be
// taken back: a trial without an end, or of longer than [MaxWindow], and changes
// that name no policy or one twice.
func DecodePolicyRevision(key string, value []byte) (PolicyRevision, error) {
	r, err := decode[PolicyRevision](key, value)
	if err != nil {
		return PolicyRevision{}, err
	}
	if err := r.check(key); err != nil {
		return PolicyRevision{}, err
	}
	return r, nil
}

func (r PolicyRevision) check(key string) error {
	switch {
	case r.Revision == 0:
		return refuse(key, "revision", "is 0: they count from 1")
	case r.Window() > MaxWindow:
		return refuse(key, "windowSeconds", "%d is more than an hour", r.WindowSeconds)
	case r.Pending() == r.ConfirmBy.IsZero():
		return refuse(key, "confirmBy", "%q with a window of %d s", r.ConfirmBy, r.WindowSeconds)
	case strings.HasPrefix(key, PolicyHistoryPrefix) && key != PolicyHistoryKey(r.Revision):
		return refuse(key, "revision", "is %d, unlike the key", r.Revision)
	}
	seen := make(map[string]bool, len(r.Changes))
	for _, c := range r.Changes {
		if c.Name == "" || strings.HasPrefix(c.Name, ".") || seen[c.Name] {
			return refuse(key, "changes", "policy %q has no name, an impossible one, or is named twice", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}
