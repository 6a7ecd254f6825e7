/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verdict on a new flow, or on a known one under a new revision. */
#ifndef PLEXUS_POLICY_H
#define PLEXUS_POLICY_H

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

/* guard_members checks what concerns both ends: through the tunnel each host
 * speaks for itself alone, and outside it members speak with each other in exempt
 * flows alone.
 */
static __always_inline int guard_members(const struct subject *s, __u8 flags)
{
	struct ipcache_value *local;
	int ours;

	if (!s->tunnel && !(flags & PEER_NODE))
		return DROP_NONE;
	local = ipcache_lookup(&s->local);
	ours = local && local->flags & PEER_LOCAL;
	if (s->tunnel)
		return ours ? DROP_NONE : DROP_TUNNEL_LOCAL;
	if (!ours || exempt(s))
		return DROP_NONE;
	return DROP_NODE_PLAINTEXT;
}

static __always_inline int guard(const struct subject *s, __u8 flags)
{
	int reason = guard_peer(flags, s->tunnel, s->outgoing);

	return reason ? reason : guard_members(s, flags);
}

/* judge decides about the subject: who the peer is, by which rule, and the reason
 * to drop.
 */
__noinline int judge(struct __sk_buff *skb)
{
	struct scratch *x = scratch_get();
	struct ipcache_value *peer;
	struct subject *s;
	struct verdict *v;
	__u32 slot;

	if (!skb || !x)
		return 0;
	s = &x->subject;
	v = &x->verdict;
	peer = ipcache_lookup(&s->remote);
	slot = v->revision & (POLICY_SLOTS - 1);
	v->report = 1;
	v->rule = 0;
	v->identity = peer ? peer->identity : identity_of_stranger(&s->remote, slot);
	v->reason = guard(s, peer ? peer->flags : 0);
	if (!v->reason && !pinhole_open(s))
		v->reason = policy_judge(v, s, slot);
	return 0;
}

#endif
