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
	t.open([2]bool{!enforced[Ingress], !enforced[Egress]})
	for k, e := range t.entries {
		if t.shadowed(k, e) {
			delete(t.entries, k)
		}
	}
	return t.entries
}

// open allows every peer in the directions given, and returns the keys of that.
func (t *table) open(directions [2]bool) (keys []Key) {
	for dir, on := range directions {
		if on {
			k := Key{Identity: AnyIdentity, Direction: Direction(dir)}
			t.add(k, Entry{})
			keys = append(keys, k)
		}
	}
	return keys
}

// remove takes away all that was put about peer, under keys.
func (t *table) remove(peer mesh.Identity, keys []Key) {
	for _, k := range keys {
		delete(t.entries, k)
	}
	delete(t.denied, peerFlows{peer, Ingress})
	delete(t.denied, peerFlows{peer, Egress})
}

// shadowed reports whether k's entry is an allow under a broader deny of the
// same peer: by its length it would win where it must not.
func (t *table) shadowed(k Key, e Entry) bool {
	return !e.Deny && t.denied[peerFlows{k.Identity, k.Direction}] && t.underDeny(k)
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
