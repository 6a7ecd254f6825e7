/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ports of fragments: the first of a packet has them, the later ones look there. */
#ifndef PLEXUS_FRAGMENT_H
#define PLEXUS_FRAGMENT_H

#define FRAGMENT_LIFETIME (30ULL * 1000000000) /* as the kernel waits for the rest */

static __noinline int fragment_ports(struct packet *p, __u64 now)
{
	struct frag_value *first, value = {};
	struct frag_key key = {};

	key.src = p->src;
	key.dst = p->dst;
	key.id = p->fragment_id;
	key.protocol = p->fragment_protocol;
	key.tunnel = p->tunnel;
	if (p->flags & PACKET_FIRST_FRAGMENT) {
		value.expires = now + FRAGMENT_LIFETIME;
		value.sport = p->sport;
		value.dport = p->dport;
		value.policy_port = p->policy_port;
		value.protocol = p->protocol;
		bpf_map_update_elem(&plexus_frag_v1, &key, &value, BPF_ANY);
		return DROP_NONE;
	}
	first = bpf_map_lookup_elem(&plexus_frag_v1, &key);
	if (!first || first->expires < now)
		return DROP_FRAGMENT;
	p->sport = first->sport;
	p->dport = first->dport;
	p->policy_port = first->policy_port;
	p->protocol = first->protocol;
	return DROP_NONE;
}

#endif
