package policy

import (
	"maps"
	"slices"

	"github.com/plexusmesh/plexus/mesh"
)

// rows are the verdicts, by the peer that they are about.
type rows struct {
	byPeer map[mesh.Identity]*row
	dirty  []mesh.Identity // whose entries in table are not as their rows say
	table  table
	lent   bool // whether somebody else has table.entries: then it may not change
	open   [2]bool
}

// row is what is said about one peer.
type row struct {
	statements []*statement // each once
	keys       []Key        // that table may have entries for
	dirty      bool
}

func newRows() rows {
	r := rows{byPeer: make(map[mesh.Identity]*row), table: table{entries: make(map[Key]Entry), denied: make(map[peerFlows]bool)}}
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
	if n := len(row.statements); n == 0 || row.statements[n-1] != st {
		row.statements = append(row.statements, st)
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
	if len(r.dirty) > 0 && r.lent {
		r.table.entries = maps.Clone(r.table.entries)
	}
	r.lent = true
	for _, id := range r.dirty {
		r.settleRow(id, r.byPeer[id])
	}
	r.dirty = r.dirty[:0]
	return r.table.entries
}

func (r *rows) settleRow(id mesh.Identity, row *row) {
	row.dirty = false
	r.table.remove(id, row.keys)
	row.keys = row.keys[:0]
	slices.SortFunc(row.statements, func(a, b *statement) int { return a.rank - b.rank })
	for _, st := range row.statements {
		keys := st.keys(id)
		r.table.put(id, st.clause.Direction, keys, st.entry)
		for _, k := range keys {
			k.Identity, k.Direction = id, st.clause.Direction
			row.keys = append(row.keys, k)
		}
	}
	if id == AnyIdentity {
		row.keys = append(row.keys, r.table.open(r.open)...)
	}
	for _, k := range row.keys {
		if e, exists := r.table.entries[k]; exists && r.table.shadowed(k, e) {
			delete(r.table.entries, k)
		}
	}
	if len(row.statements) == 0 && id != AnyIdentity {
		delete(r.byPeer, id)
	}
}
