/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its verdict: by its flow where that is known, else by policy. */
#ifndef PLEXUS_VERDICT_H
#define PLEXUS_VERDICT_H

static __always_inline void verdict_judge(struct verdict *v, const struct packet *p, __be16 port)
{
	struct subject s = {
		.remote = *packet_remote(p),
		.direction = v->direction,
		.protocol = p->protocol,
		.port = port,
		.tunnel = p->tunnel,
		.outgoing = p->outgoing,
	};

	judge(v, &s);
}

/* verdict_kept takes the verdict on a known flow, asking policy again if its
 * revision has changed. The agent hears of it where it is not what it was.
 */
static __always_inline void verdict_kept(struct verdict *v, struct ct_value *e, const struct packet *p, __u64 now)
{
	v->direction = e->direction;
	v->reply = e->direction != p->outgoing;
	if (e->revision != v->revision) {
		verdict_judge(v, p, e->policy_port);
		v->report = v->reason != e->reason || v->rule != e->rule || v->identity != e->identity;
		ct_rejudged(e, v, p->protocol, now);
		return;
	}
	v->identity = e->identity;
	v->rule = e->rule;
	v->reason = e->reason;
}

static __always_inline void verdict_flow(struct verdict *v, const struct packet *p, __u64 now)
{
	struct ct_value *e;
	struct ct_key key;

	ct_key_of(&key, p);
	e = bpf_map_lookup_elem(&plexus_ct_v1, &key);
	if (e && ct_covers(e, p, now)) {
		verdict_kept(v, e, p, now);
		if (!v->reason)
			ct_touch(e, p, now);
		return;
	}
	v->direction = p->outgoing;
	v->reply = 0;
	verdict_judge(v, p, p->policy_port);
	/* A live entry is that of a flow in the other direction: leave it. */
	if (!v->reason && !(e && ct_live(e, now)))
		ct_create(&key, p, v, now);
}

/* verdict_quoted reports whether an ICMP error is about a flow that is allowed.
 * The packet that it quotes travelled the other way.
 */
static __noinline int verdict_quoted(struct __sk_buff *skb, struct packet *p, struct verdict *v, __u64 now)
{
	struct packet inner = {
		.l3 = p->l4 + 8,
		.tunnel = p->tunnel,
		.outgoing = !p->outgoing,
		.quoted = 1,
	};
	struct ipcache_value *sender;
	struct ct_value *e;
	struct ct_key key;

	sender = ipcache_lookup(packet_remote(p));
	if (guard_peer(sender ? sender->flags : 0, p->tunnel, p->outgoing))
		return 0;
	if (parse_network(skb, &inner, p->flags & PACKET_IPV6))
		return 0;
	ct_key_of(&key, &inner);
	e = bpf_map_lookup_elem(&plexus_ct_v1, &key);
	if (!e || e->expires < now || inner.flags & PACKET_LATER_FRAGMENT)
		return 0;
	verdict_kept(v, e, &inner, now);
	v->report = 0;
	return !v->reason;
}

static __always_inline void verdict_of(struct __sk_buff *skb, struct packet *p, struct verdict *v)
{
	__u64 now = bpf_ktime_get_boot_ns();

	v->revision = policy_revision();
	if (p->flags & (PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT)) {
		v->reason = fragment_ports(p, now);
		if (v->reason)
			return;
	}
	if (p->flags & PACKET_ICMP_ERROR && verdict_quoted(skb, p, v, now))
		return;
	verdict_flow(v, p, now);
}

#endif
