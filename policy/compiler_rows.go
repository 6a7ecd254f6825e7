package policy

import (
	"cmp"
	"maps"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
)

// rows are verdicts by the peer that they are about.
type rows struct {
	byPeer  map[mesh.Identity]*row
	dirty   []mesh.Identity // whose verdicts are not what their statements say
	entries map[Key]Entry   // of all rows
	lent    bool            // whether somebody else has entries: then they may not change
	open    [2]bool         // by Direction: whether every peer is allowed what no rule decides
	scratch []verdict
}

// row is what is said about one peer.
type row struct {
	statements []*statement // by rank, each once
	verdicts   []verdict    // that entries has of it, by verdict.compare
	dirty      bool
}

// verdict is one of Verdicts.Entries.
type verdict struct {
	key   Key
	entry Entry
}

func newRows() rows {
	r := rows{byPeer: make(map[mesh.Identity]*row), entries: make(map[Key]Entry)}
	r.touch(AnyIdentity)
	return r
}

// touch returns the row of id, which is settled again later.
func (r *rows) touch(id mesh.Identity) *row {
	out, known := r.byPeer[id]
	if !known {
		out = new(row)
		r.byPeer[id] = out
	}
	if !out.dirty {
		out.dirty = true
		r.dirty = append(r.dirty, id)
	}
	return out
}

// empty has nothing said about id.
func (r *rows) empty(id mesh.Identity) { r.touch(id).statements = nil }

// state has st said about id; peers of a statement may come twice.
func (r *rows) state(id mesh.Identity, st *statement) {
	row := r.touch(id)
	at := len(row.statements)
	for at > 0 && row.statements[at-1].rank > st.rank {
		at--
	}
	if at == 0 || row.statements[at-1] != st {
		row.statements = slices.Insert(row.statements, at, st)
	}
}

// sweep takes away what is gone.
func (r *rows) sweep() {
	for id, row := range r.byPeer {
		stale, gone := false, false
		for _, st := range row.statements {
			stale, gone = stale || st.gone || st.renamed, gone || st.gone
		}
		if stale {
			r.touch(id)
		}
		if gone {
			row.statements = slices.DeleteFunc(row.statements, func(st *statement) bool { return st.gone })
		}
	}
}

// settle returns the entries that rows say, with the directions that nothing
// enforces open.
func (r *rows) settle(enforced [2]bool) map[Key]Entry {
	if open := [2]bool{!enforced[Ingress], !enforced[Egress]}; open != r.open {
		r.open = open
		r.touch(AnyIdentity)
	}
	for _, id := range r.dirty {
		row := r.byPeer[id]
		row.dirty = false
		r.scratch = r.appendVerdicts(r.scratch[:0], id, row.statements)
		if !slices.Equal(row.verdicts, r.scratch) {
			r.replace(row.verdicts, r.scratch)
			row.verdicts = slices.Clone(r.scratch)
		}
		if len(row.statements) == 0 && id != AnyIdentity {
			delete(r.byPeer, id)
		}
	}
	r.dirty, r.lent = r.dirty[:0], true
	return r.entries
}

// appendVerdicts appends what statements say about id, as a table of them would
// have it: of equal keys one that denies, or else the first said, and no allow
// under a broader deny.
func (r *rows) appendVerdicts(to []verdict, id mesh.Identity, statements []*statement) []verdict {
	for _, st := range statements {
		for _, k := range st.keys(id) {
			k.Identity, k.Direction = id, st.clause.Direction
			to = append(to, verdict{k, st.entry})
		}
	}
	for dir, open := range r.open {
		if open && id == AnyIdentity {
			to = append(to, verdict{key: Key{Direction: Direction(dir)}})
		}
	}
	sortVerdicts(to)
	to = slices.CompactFunc(to, func(a, b verdict) bool { return a.key == b.key })
	if !slices.ContainsFunc(to, func(v verdict) bool { return v.entry.Deny }) {
		return to
	}
	denied := func(k Key) bool {
		at, found := slices.BinarySearchFunc(to, verdict{k, Entry{Deny: true}}, verdict.compare)
		return found && to[at].entry.Deny
	}
	// What goes is an allow. Those that stay move up only once all are known.
	var shadowed []Key
	for _, v := range to {
		if !v.entry.Deny && underDeny(v.key, denied) {
			shadowed = append(shadowed, v.key)
		}
	}
	return slices.DeleteFunc(to, func(v verdict) bool {
		if len(shadowed) > 0 && v.key == shadowed[0] {
			shadowed = shadowed[1:]
			return true
		}
		return false
	})
}

// sortVerdicts sorts those of one peer, stably. Most peers have few.
func sortVerdicts(vs []verdict) {
	const few = 24
	if len(vs) > few {
		slices.SortStableFunc(vs, verdict.compare)
		return
	}
	for i := range vs {
		for j := i; j > 0 && vs[j].compare(vs[j-1]) < 0; j-- {
			vs[j], vs[j-1] = vs[j-1], vs[j]
		}
	}
}

// compare orders the verdicts of one peer by key, and of equal ones a deny first.
func (v verdict) compare(o verdict) int {
	if c := cmp.Compare(v.key.place(), o.key.place()); c != 0 || v.entry.Deny == o.entry.Deny {
		return c
	}
	if v.entry.Deny {
		return -1
	}
	return 1
}

// place is a number that no other key of the same peer has.
func (k Key) place() uint64 {
	return uint64(k.Direction)<<32 | uint64(k.Protocol)<<24 | uint64(k.Port)<<8 | uint64(k.PortBits)
}

// replace has entries hold is where they held was, verdicts of one peer.
func (r *rows) replace(was, is []verdict) {
	if r.lent {
		r.entries, r.lent = maps.Clone(r.entries), false
	}
	for _, v := range was {
		for len(is) > 0 && is[0].key.place() < v.key.place() {
			r.entries[is[0].key] = is[0].entry
			is = is[1:]
		}
		switch {
		case len(is) == 0 || is[0].key != v.key:
			delete(r.entries, v.key)
		case is[0].entry != v.entry:
			r.entries[v.key] = is[0].entry
			is = is[1:]
		default:
			is = is[1:]
		}
	}
	for _, v := range is {
		r.entries[v.key] = v.entry
	}
}
