/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What policy says of a flow. */
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

#endif
