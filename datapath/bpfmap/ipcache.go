package bpfmap

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
)

// IPCache is the map from address to identity, by longest prefix.
type IPCache struct {
	trie     *ebpf.Map
	revision *revision
}

// List returns every entry.
func (c *IPCache) List() (map[netip.Prefix]datapath.Peer, error) {
	out := make(map[netip.Prefix]datapath.Peer)
	var key bpfobj.PlexusPrefixKey
	var value bpfobj.PlexusIpcacheValue
	it := c.trie.Iterate()
	for it.Next(&key, &value) {
		out[key.Netip()] = datapath.Peer{Identity: mesh.Identity(value.Identity), Flags: datapath.PeerFlags(value.Flags)}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return out, nil
}

// Apply writes the entries of upsert, then removes those of remove, then has
// known flows judged again. An entry that is not there counts as removed. One
// entry that fails stops no other; all their errors are returned.
func (c *IPCache) Apply(upsert map[netip.Prefix]datapath.Peer, remove []netip.Prefix) error {
	if len(upsert)+len(remove) == 0 {
		return nil
	}
	var errs []error
	for prefix, peer := range upsert {
		errs = append(errs, c.put(prefix, peer))
	}
	for _, prefix := range remove {
		errs = append(errs, c.remove(prefix))
	}
	_, err := c.revision.rejudge()
	return errors.Join(append(errs, err)...)
}

func (c *IPCache) put(prefix netip.Prefix, peer datapath.Peer) error {
	value := bpfobj.PlexusIpcacheValue{Identity: uint32(peer.Identity), Flags: uint8(peer.Flags)}
	key := bpfobj.PrefixKeyOf(prefix.Masked())
	err := c.trie.Update(&key, &value, ebpf.UpdateAny)
	if errors.Is(err, errNoSpace) {
		return fmt.Errorf("write identity of %s: the map is full at %d addresses: %w", prefix, c.trie.MaxEntries(), err)
	}
	if err != nil {
		return fmt.Errorf("write identity of %s: %w", prefix, err)
	}
	return nil
}

func (c *IPCache) remove(prefix netip.Prefix) error {
	key := bpfobj.PrefixKeyOf(prefix.Masked())
	if err := c.trie.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("remove identity of %s: %w", prefix, err)
	}
	return nil
}
