package schema

import "time"

// EnrolmentKey is rewritten with everything that changes which hosts there are
// or what is true of them. Whoever decides over several keys does so on
// condition that this one has not changed since.
const EnrolmentKey = "plexus/v1/enrolment"

// RefusalsPrefix holds what the leading server did not believe: [Refusals].
const RefusalsPrefix = "plexus/v1/refusals/"

// RefusalKey is where a host finds what of its claim was refused.
func RefusalKey(node string) string { return RefusalsPrefix + node }

// Refusals are the parts of a host's claim that did not become facts.
type Refusals struct {
	Node    string    `json:"node"`
	Time    time.Time `json:"time"`
	Refused []Refusal `json:"refused"`
}

// Refusal is one part of a claim, and why it is not believed.
type Refusal struct {
	Field  string `json:"field"` // "node", "address" or "key"
	Value  string `json:"value"`
	Reason string `json:"reason"`
}

// EncodeRefusals renders it for [RefusalKey].
func EncodeRefusals(r Refusals) ([]byte, error) { return encode(r) }

// DecodeRefusals reads the refusals found under that name.
func DecodeRefusals(name string, value []byte) (Refusals, error) {
	key := RefusalKey(name)
	r, err := decode[Refusals](key, value)
	if err != nil {
		return Refusals{}, err
	}
	return r, checkNode(key, name, r.Node)
}
