package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/kvstore/schema"
)

func decodeRevision(value []byte) (schema.PolicyRevision, error) {
	return schema.DecodePolicyRevision(schema.PolicyRevisionKey, value)
}

// onTrial is a revision with all fields that one can have.
var onTrial = schema.PolicyRevision{
	Revision: 3, Author: "root", Time: now, Message: "why", Action: schema.ActionRollback, Of: 2, To: 1, Expired: true,
	WindowSeconds: 60, ConfirmBy: now.Add(time.Minute), ConfirmedBy: "root", State: schema.StateReplaced,
	Changes: []schema.PolicyChange{{Name: "p", Change: schema.ChangeUpdated, Before: "kind: X\n"}, {Name: "ns/q", Change: schema.ChangeCreated}},
}

func TestPolicyRecords(t *testing.T) {
	pol := schema.Policy{Name: "p", Document: "kind: X\n", Revision: 3, Author: "root", Time: now}
	roundTrip(t, pol, schema.EncodePolicy, func(b []byte) (schema.Policy, error) { return schema.DecodePolicy("p", b) })
	roundTrip(t, onTrial, schema.EncodePolicyRevision, decodeRevision)
	if !onTrial.Pending() || onTrial.Window() != time.Minute {
		t.Errorf("pending %t, window %s", onTrial.Pending(), onTrial.Window())
	}
}

func TestRefusedRevisions(t *testing.T) {
	for name, tt := range map[string]struct{ value, field string }{
		"without a number":         {`{}`, "revision"},
		"with a negative number":   {`{"revision":-1}`, "revision"},
		"a trial of days":          {`{"revision":1,"windowSeconds":3601,"confirmBy":"2026-07-01T12:00:00Z"}`, "windowSeconds"},
		"a trial without end":      {`{"revision":1,"windowSeconds":60}`, "confirmBy"},
		"an end without trial":     {`{"revision":1,"confirmBy":"2026-07-01T12:00:00Z"}`, "confirmBy"},
		"a change of nothing":      {`{"revision":1,"changes":[{"change":"created"}]}`, "changes"},
		"a change of the revision": {`{"revision":1,"changes":[{"name":".revision"}]}`, "changes"},
		"two changes of one":       {`{"revision":1,"changes":[{"name":"a"},{"name":"a","before":"x"}]}`, "changes"},
		"no JSON":                  {`{`, ""},
	} {
		if _, err := decodeRevision([]byte(tt.value)); err == nil || !strings.Contains(err.Error(), schema.PolicyRevisionKey) || !strings.Contains(err.Error(), tt.field) {
			t.Errorf("%s: %v, want an error that names %s", name, err, tt.field)
		}
	}
	if _, err := schema.DecodePolicyRevision(schema.PolicyHistoryKey(2), []byte(`{"revision":1}`)); err == nil || !strings.Contains(err.Error(), "unlike the key") {
		t.Errorf("under another number: %v", err)
	}
}

// FuzzPolicyRevision checks that what is believed can be taken back: a trial has
// an end within bounds, and each change is of one policy.
func FuzzPolicyRevision(f *testing.F) {
	value, err := schema.EncodePolicyRevision(onTrial)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte(`{"revision":41,"author":"root","time":"2026-07-01T12:00:00Z"}`))
	f.Add([]byte(`{"revision":1,"windowSeconds":3600,"confirmBy":"2026-07-01T12:00:00+14:00","changes":[{"name":"cidrgroup:a","before":"\u0000"}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRevision(value)
		if err := again(err, err == nil && believable(r) == nil, r, schema.EncodePolicyRevision, decodeRevision); err != nil {
			t.Errorf("%v: %v", err, believable(r))
		}
	})
}

func believable(r schema.PolicyRevision) error {
	if r.Pending() == r.ConfirmBy.IsZero() || r.Window() < 0 || r.Window() > schema.MaxWindow {
		return fmt.Errorf("window of %s until %s", r.Window(), r.ConfirmBy)
	}
	seen := make(map[string]bool)
	for _, c := range r.Changes {
		if seen[c.Name] || schema.PolicyKey(c.Name) == schema.PoliciesPrefix || schema.PolicyKey(c.Name) == schema.PolicyRevisionKey {
			return fmt.Errorf("change of %q", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}
