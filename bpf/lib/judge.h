/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verdict on a new flow, or on a known one under a new revision. */
#ifndef PLEXUS_JUDGE_H
#define PLEXUS_JUDGE_H

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

/* judge_anew asks every table. */
static __always_inline void judge_anew(const struct subject *s, struct verdict *v)
{
	struct ipcache_value *peer = ipcache_lookup(&s->remote);
	__u32 slot = v->revision & (POLICY_SLOTS - 1);

	v->rule = 0;
	v->identity = peer ? peer->identity : identity_of_stranger(&s->remote, slot);
	v->reason = guard(s, peer ? peer->flags : 0);
	if (!v->reason && !pinhole_open(s))
		v->reason = policy_judge(v, s, slot);
}

/* judge decides about the subject: who the peer is, by which rule, and the reason
 * to drop. Whatever decides has its own revision, so what was judged under this one
 * holds: connections to one port of one peer are judged once.
 */
__noinline int judge(struct __sk_buff *skb)
{
	struct scratch *x = scratch_get();
	struct verdict *v;
	struct judged *j;

	if (!skb || !x)
		return 0;
	v = &x->verdict;
	v->report = 1;
	v->reason = DROP_NO_POLICY; /* of a hash without a place, which none is */
	j = judged_place(&x->subject);
	if (!j)
		return 0;
	if (judged_holds(j, &x->subject, v->revision)) {
		judged_take(j, v);
		return 0;
	}
	judge_anew(&x->subject, v);
	judged_keep(j, &x->subject, v);
	return 0;
}

#endif
