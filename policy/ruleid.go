package policy

import "hash/fnv"

// rules hands out RuleIDs and remembers where each rule stands.
type rules map[RuleID]RuleRef

// add returns a number for a clause. It is a hash of where the clause stands;
// when two collide, the one that comes later in order moves to the next number.
func (r rules) add(kind Kind, ref RuleRef) RuleID {
	h := fnv.New32a()
	_, _ = h.Write([]byte(string(kind) + "\x00" + ref.Policy + "\x00" + ref.Section)) // never an error
	id := RuleID(h.Sum32())
	for id == 0 || r.taken(id) {
		id++
	}
	r[id] = ref
	return id
}

func (r rules) taken(id RuleID) bool {
	_, taken := r[id]
	return taken
}
