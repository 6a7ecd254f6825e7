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

// resolve returns the entries with which the longest match decides rightly. A
// direction that nothing enforces is open to every peer.
func (t *table) resolve(enforced [2]bool) map[Key]Entry {
	for dir, on := range enforced {
		if !on {
			t.add(Key{Identity: AnyIdentity, Direction: Direction(dir)}, Entry{})
		}
	}
	for k, e := range t.entries {
		if t.shadowed(k, e) {
			delete(t.entries, k)
		}
	}
	return t.entries
}

// shadowed reports whether k's entry is an allow under a broader deny of the
// same peer: by its length it would win where it must not.
func (t *table) shadowed(k Key, e Entry) bool {
	return !e.Deny && t.denied[peerFlows{k.Identity, k.Direction}] &&
		underDeny(k, func(k Key) bool { return t.entries[k].Deny })
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
