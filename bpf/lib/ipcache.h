/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who a peer is, by its address, and where its packets may be seen. */
#ifndef PLEXUS_IPCACHE_H
#define PLEXUS_IPCACHE_H

enum identity { /* reserved: package identity */
	IDENTITY_ANY = 0,
	IDENTITY_WORLD_IPV4 = 9,
	IDENTITY_WORLD_IPV6 = 10,
	IDENTITY_CIDR = 1 << 24, /* from here on, those of the CIDR peers that policy names */
};

static __always_inline struct ipcache_value *ipcache_lookup(const struct addr *a)
{
	struct prefix_key key = { .prefixlen = 128, .addr = *a };

	return bpf_map_lookup_elem(&plexus_ipcache_v1, &key);
}

static __always_inline __u32 identity_world(const struct addr *a)
{
	return addr_is_mapped(a) ? IDENTITY_WORLD_IPV4 : IDENTITY_WORLD_IPV6;
}

/* identity_is_stranger reports whether the ipcache does not know an address of this
 * identity.
 */
static __always_inline int identity_is_stranger(__u32 identity)
{
	return identity == IDENTITY_WORLD_IPV4 || identity == IDENTITY_WORLD_IPV6 || identity >= IDENTITY_CIDR;
}

/* identity_of_stranger is that of an address that the ipcache does not know:
 * of the longest prefix that policy names, or of the world.
 */
static __always_inline __u32 identity_of_stranger(const struct addr *a, __u32 slot)
{
	struct prefix_key key = { .prefixlen = 128, .addr = *a };
	void *trie = bpf_map_lookup_elem(&plexus_cidr_v1, &slot);
	__u32 *identity;

	if (!trie)
		return identity_world(a);
	identity = bpf_map_lookup_elem(trie, &key);
	return identity ? *identity : identity_world(a);
}

/* guard_peer checks that a peer of these flags may be spoken with on a device of
 * this class. It looks at a flow as a whole, so that the answer holds for both
 * directions and is kept with the flow.
 */
static __always_inline int guard_peer(__u8 flags, __u8 tunnel, __u8 outgoing)
{
	if (!tunnel && flags & PEER_LOCAL && !outgoing)
		return DROP_LOCAL_SOURCE;
	if (!tunnel && flags & PEER_MESH)
		return outgoing ? DROP_PLAINTEXT : DROP_MESH_SOURCE_OUTSIDE;
	if (tunnel && (!(flags & (PEER_MESH | PEER_NODE)) || flags & PEER_LOCAL))
		return outgoing ? DROP_TUNNEL_DESTINATION : DROP_TUNNEL_SOURCE;
	return DROP_NONE;
}

#endif
