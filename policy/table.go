package policy

import "github.com/plexusmesh/plexus/mesh"

// table gathers entries and settles which of them stand.
type table struct {
	entries map[Key]Entry
	denied  map[peerFlows]bool // where some entry denies
}

// peerFlows are the flows of one peer in one direction.
type peerFlows struct {
	peer      mesh.Identity
	direction Direction
}

// put adds an entry for each key, which lack peer and direction.
func (t *table) put(peer mesh.Identity, direction Direction, keys []Key, e Entry) {
	for _, k := range keys {
		k.Identity, k.Direction = peer, direction
		t.add(k, e)
	}
}

// add adds an entry. Of two for the same key, the one that denies stands, or
// else the first.
func (t *table) add(k Key, e Entry) {
	was, exists := t.entries[k]
	if exists && (was.Deny || !e.Deny) {
		return
	}
	t.entries[k] = e
	if e.Deny {
		if t.denied == nil {
			t.denied = make(map[peerFlows]bool)
		}
		t.denied[peerFlows{k.Identity, k.Direction}] = true
	}
}

// resolve returns the entries with which the longest match decides rightly: an
// allow under a broader deny of the same peer is dropped, as it would win by
// its length. A direction that nothing enforces is open to every peer.
func (t *table) resolve(enforced [2]bool) map[Key]Entry {
	for dir, on := range enforced {
		if !on {
			t.add(Key{Identity: AnyIdentity, Direction: Direction(dir)}, Entry{})
		}
	}
	for k, e := range t.entries {
		if !e.Deny && t.denied[peerFlows{k.Identity, k.Direction}] && t.underDeny(k) {
			delete(t.entries, k)
		}
	}
	return t.entries
}

// underDeny reports whether a broader entry of the same peer denies k.
func (t *table) underDeny(k Key) bool {
	if t.entries[Key{Identity: k.Identity, Direction: k.Direction}].Deny {
		return true
	}
	if k.Protocol == 0 {
		return false
	}
	broader := k
	for bits := range k.PortBits {
		broader.PortBits, broader.Port = bits, k.Port&portMask(bits)
		if t.entries[broader].Deny {
			return true
		}
	}
	return false
}
