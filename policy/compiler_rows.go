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
	beyond  int // verdicts that entries have no room for: then rows are of no further use
}

// Rows keep no more verdicts than a change from one full set to another may need
// for a moment, and count no further than tells how far off a set is.
const (
	mostKept    = 2 * MaxVerdicts
	mostCounted = 16 * MaxVerdicts
)

// row is what is said about one peer.
type row struct {
	statements []*statement // by rank, each once
	verdicts   []verdict    // that entries has of it, by place
	dirty      bool
}

// verdict is one of Verdicts.Entries, of a peer that is known already.
type verdict struct {
	place place
	entry Entry
}

// place is a Key without the peer, in one number.
type place uint64

func placeOf(k Key) place {
	return place(k.Direction)<<32 | place(k.Protocol)<<24 | place(k.Port)<<8 | place(k.PortBits)
}

func (p place) key(peer mesh.Identity) Key {
	return Key{Identity: peer, Direction: Direction(p >> 32), Protocol: uint8(p >> 24), Port: uint16(p >> 8), PortBits: uint8(p)}
}

// places returns a function that gives the places of the flows with a peer that
// a clause is about.
func (c *compiler) places(clause *Clause) func(mesh.Identity) []place {
	keys := c.keys(clause)
	with := func(peer mesh.Identity) []place {
		out := make([]place, 0, 1)
		for _, k := range keys(peer) {
			k.Direction = clause.Direction
			out = append(out, placeOf(k))
		}
		return out
	}
	if clause.portsVary() {
		return with
	}
	same := with(AnyIdentity)
	return func(mesh.Identity) []place { return same }
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
		switch {
		case slices.Equal(row.verdicts, r.scratch):
		case len(r.entries) > MaxVerdicts && len(r.entries)+len(r.scratch)-len(row.verdicts) > mostKept:
			r.beyond += len(r.scratch)
		default:
			r.replace(id, row.verdicts, r.scratch)
			row.verdicts = slices.Clone(r.scratch)
		}
		if r.beyond > mostCounted {
			break
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
		for _, p := range st.places(id) {
			to = append(to, verdict{p, st.entry})
		}
	}
	for dir, open := range r.open {
		if open && id == AnyIdentity {
			to = append(to, verdict{place: placeOf(Key{Direction: Direction(dir)})})
		}
	}
	sortVerdicts(to)
	to = slices.CompactFunc(to, func(a, b verdict) bool { return a.place == b.place })
	if !slices.ContainsFunc(to, func(v verdict) bool { return v.entry.Deny }) {
		return to
	}
	denied := func(k Key) bool {
		at, found := slices.BinarySearchFunc(to, verdict{placeOf(k), Entry{Deny: true}}, verdict.compare)
		return found && to[at].entry.Deny
	}
	// What goes is an allow. Those that stay move up only once all are known.
	var shadowed []place
	for _, v := range to {
		if !v.entry.Deny && underDeny(v.place.key(id), denied) {
			shadowed = append(shadowed, v.place)
		}
	}
	return slices.DeleteFunc(to, func(v verdict) bool {
		if len(shadowed) > 0 && v.place == shadowed[0] {
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
	if c := cmp.Compare(v.place, o.place); c != 0 || v.entry.Deny == o.entry.Deny {
		return c
	}
	if v.entry.Deny {
		return -1
	}
	return 1
}

// replace has entries hold is where they held was, verdicts of one peer.
func (r *rows) replace(peer mesh.Identity, was, is []verdict) {
	if r.lent {
		r.entries, r.lent = maps.Clone(r.entries), false
	}
	for _, v := range was {
		for len(is) > 0 && is[0].place < v.place {
			r.entries[is[0].place.key(peer)] = is[0].entry
			is = is[1:]
		}
		if len(is) == 0 || is[0].place != v.place {
			delete(r.entries, v.place.key(peer))
			continue
		}
		if is[0].entry != v.entry {
			r.entries[v.place.key(peer)] = is[0].entry
		}
		is = is[1:]
	}
	for _, v := range is {
		r.entries[v.place.key(peer)] = v.entry
	}
}

// underDeny reports whether one of the keys that are broader than k is denied.
func underDeny(k Key, denied func(Key) bool) bool {
	if denied(Key{Identity: k.Identity, Direction: k.Direction}) {
		return true
	}
	if k.Protocol == 0 {
		return false
	}
	broader := k
	for bits := range k.PortBits {
		broader.PortBits, broader.Port = bits, k.Port&portMask(bits)
		if denied(broader) {
			return true
		}
	}
	return false
}
