/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verdict on a new flow, or on a known one under a new revision. */
#ifndef PLEXUS_POLICY_H
#define PLEXUS_POLICY_H

/* What of a flow is judged. */
struct subject {
	struct addr remote;
	__u8 direction; /* of the flow */
	__u8 protocol;
	__be16 port; /* as in struct policy_key */
	__u8 tunnel;
	__u8 outgoing; /* the packet at hand */
	__u8 pad[2];
};

static __always_inline __u32 policy_revision(void)
{
	struct state *s;
	__u32 zero = 0;

	s = bpf_map_lookup_elem(&plexus_state_v1, &zero);
	return s ? *(volatile __u32 *)&s->revision : 0;
}

/* policy_judge asks for the peer and for anyone: a denial of either counts, then
 * a permission of either.
 */
static __always_inline int policy_judge(struct verdict *v, const struct subject *s, __u32 slot)
{
	struct policy_key key = {
		.prefixlen = 64,
		.identity = v->identity,
		.direction = s->direction,
		.protocol = s->protocol,
		.port = s->port,
	};
	void *trie = bpf_map_lookup_elem(&plexus_policy_v1, &slot);
	struct policy_value *own, *any;

	if (!trie)
		return DROP_NO_POLICY;
	own = bpf_map_lookup_elem(trie, &key);
	key.identity = IDENTITY_ANY;
	any = bpf_map_lookup_elem(trie, &key);
	if (!own || (any && any->deny && !own->deny))
		own = any;
	if (!own)
		return DROP_POLICY;
	v->rule = own->rule;
	return own->deny ? DROP_POLICY_DENY : DROP_NONE;
}

/* judge fills in who the peer is, which rule decided, and the reason to drop. */
static __noinline int judge(struct verdict *v, struct subject *s)
{
	struct ipcache_value *peer = ipcache_lookup(&s->remote);
	__u32 slot = v->revision & (POLICY_SLOTS - 1);

	v->report = 1;
	v->rule = 0;
	v->identity = peer ? peer->identity : identity_of_stranger(&s->remote, slot);
	v->reason = guard_peer(peer ? peer->flags : 0, s->tunnel, s->outgoing);
	if (!v->reason && !pinhole_open(&s->remote, s->direction, s->protocol, s->port))
		v->reason = policy_judge(v, s, slot);
	return 0;
}

#endif
