/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its verdict: by its flow where that is known, else by policy. */
#ifndef PLEXUS_VERDICT_H
#define PLEXUS_VERDICT_H

static __always_inline void verdict_judge(struct verdict *v, const struct packet *p, __be16 port)
{
	struct subject s = {
		.remote = *packet_remote(p),
		.local = *packet_local(p),
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

/* verdict_known accounts for a packet of a known flow that may pass. */
static __always_inline void verdict_known(struct ct_key *key, struct ct_value *e, const struct packet *p, int kept, __u64 now)
{
	__u32 revision = e->revision;
	__u32 jiffies = CACHE_JIFFIES;
	enum cache_way way;

	ct_touch(e, p, now);
	if (e->tcp_state == TCP_STATE_SYN || e->tcp_state == TCP_STATE_CLOSING)
		jiffies = 0;
	way = cache_way(e->flags, e->direction, kept || ct_is_open(e, p));
	if (!kept && ct_is_open(e, p))
		ct_keep(key, e);
	if (p->protocol == IPPROTO_UDP || p->protocol == IPPROTO_TCP)
		cache_put(key, revision, way, jiffies);
}

/* verdict_new judges a packet that no entry covers. e is one that does not. */
static __always_inline void verdict_new(struct verdict *v, const struct packet *p, struct ct_key *key,
					struct ct_value *e, int kept, __u64 now)
{
	struct ct_value *from = ct_elsewhere(key, p, now);

	v->direction = from ? from->direction : p->outgoing;
	v->reply = v->direction != p->outgoing;
	verdict_judge(v, p, from ? from->policy_port : p->policy_port);
	/* A live entry is that of a flow in the other direction: leave it. */
	if (v->reason || (e && ct_live(e, now)))
		return;
	if (from)
		ct_adopt(key, from, v);
	else
		ct_create(key, p, v, kept, now);
}

static __always_inline void verdict_flow(struct verdict *v, const struct packet *p, __u64 now)
{
	struct ct_value *e;
	struct ct_key key;
	int kept;

	ct_key_of(&key, p);
	e = ct_find(&key, &kept);
	if (!e || !ct_covers(e, p, now)) {
		verdict_new(v, p, &key, e, kept, now);
		return;
	}
	verdict_kept(v, e, p, now);
	if (!v->reason)
		verdict_known(&key, e, p, kept, now);
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
	int kept;

	sender = ipcache_lookup(packet_remote(p));
	if (guard_peer(sender ? sender->flags : 0, p->tunnel, p->outgoing))
		return 0;
	if (parse_network(skb, &inner, p->flags & PACKET_IPV6))
		return 0;
	ct_key_of(&key, &inner);
	e = ct_find(&key, &kept);
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
