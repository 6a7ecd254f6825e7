/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a packet to its verdict: by its flow where that is known, else by policy. */
#ifndef PLEXUS_VERDICT_H
#define PLEXUS_VERDICT_H

/* verdict_judge asks about a flow of the direction in s->verdict. */
static __always_inline void verdict_judge(struct __sk_buff *skb, struct scratch *s, const struct packet *p, __be16 port)
{
	s->subject = (struct subject){
		.remote = *packet_remote(p),
		.local = *packet_local(p),
		.direction = s->verdict.direction,
		.protocol = p->protocol,
		.port = port,
		.tunnel = p->tunnel,
		.outgoing = p->outgoing,
	};
	judge(skb);
}

/* verdict_kept takes the verdict on a known flow, asking policy again if its
 * revision has changed. The agent hears of it where it is not what it was.
 */
static __always_inline void verdict_kept(struct __sk_buff *skb, struct scratch *s, struct ct_value *e, const struct packet *p, __u64 now)
{
	struct verdict *v = &s->verdict;

	v->direction = e->direction;
	v->reply = e->direction != p->outgoing;
	if (e->revision != v->revision) {
		verdict_judge(skb, s, p, e->policy_port);
		v->report = v->reason != e->reason || v->rule != e->rule || v->identity != e->identity;
		ct_rejudged(e, v, p->protocol, now);
		return;
	}
	v->identity = e->identity;
	v->rule = e->rule;
	v->reason = e->reason;
}

/* verdict_cache has this CPU know a flow that has had some packets. A new or a reset
 * connection must be asked itself: what is known of the one before ends.
 */
static __always_inline void verdict_cache(struct __sk_buff *skb, const struct scratch *s, const struct ct_value *e, int kept)
{
	const struct packet *p = &s->packet;
	__u32 way = cache_way(e->flags, e->direction, kept && e->flags & CT_REPLY_SEEN);

	if (p->protocol != IPPROTO_UDP && p->protocol != IPPROTO_TCP)
		return;
	if (kept && p->tcp_flags & (TCP_SYN | TCP_RST))
		cache_end(&s->key);
	else if (e->rx_packets + e->tx_packets >= CACHE_AFTER && !(p->tcp_flags & TCP_CHANGES) &&
		 (e->tcp_state == TCP_STATE_NONE || e->tcp_state == TCP_STATE_ESTABLISHED))
		cache_put(skb, s->verdict.revision, way_and_birth(way, e->birth));
}

/* verdict_known accounts for a packet of a known flow that may pass. One that has
 * just opened is cached by a later packet: see CACHE_AFTER.
 */
static __always_inline void verdict_known(struct __sk_buff *skb, struct scratch *s, struct ct_value *e, int kept, __u64 now)
{
	ct_touch(e, &s->packet, now);
	if (ct_is_open(e, &s->packet) && ct_keep(s, e, kept))
		return;
	verdict_cache(skb, s, e, kept);
}

/* verdict_limited reports whether a flow that policy allows is one too many of a
 * stranger. What a pinhole lets in has no limit.
 */
static __always_inline int verdict_limited(const struct scratch *s, __u64 now)
{
	const struct verdict *v = &s->verdict;

	if (!cfg_limit_gap || v->reason || s->packet.outgoing || s->packet.tunnel || !identity_is_stranger(v->identity))
		return 0;
	return !pinhole_open(&s->subject) && limit_take(packet_remote(&s->packet), now);
}

/* verdict_new judges a packet that the entry of its key, if there is one, does not
 * cover.
 */
static __always_inline void verdict_new(struct __sk_buff *skb, struct scratch *s, struct ct_place place, __u64 now)
{
	const struct packet *p = &s->packet;
	struct verdict *v = &s->verdict;
	struct ct_value *from = ct_elsewhere(&s->key, p, now);

	v->direction = from ? from->direction : p->outgoing;
	v->reply = v->direction != p->outgoing;
	verdict_judge(skb, s, p, from ? from->policy_port : p->policy_port);
	if (!from && verdict_limited(s, now))
		v->reason = DROP_RATE_LIMIT;
	/* A live entry is that of a flow in the other direction: leave it. */
	if (v->reason || (place.entry && ct_live(place.entry, now)))
		return;
	if (place.kept && p->protocol == IPPROTO_TCP)
		cache_end(&s->key);
	if (from)
		ct_adopt(s, from, now);
	else
		ct_create(&s->key, p, v, place, now);
}

static __always_inline void verdict_flow(struct __sk_buff *skb, struct scratch *s, __u64 now)
{
	struct ct_value *e;
	int kept;

	ct_key_of(&s->key, &s->packet);
	e = ct_find(&s->key, &kept);
	if (!e || !ct_covers(e, &s->packet, now)) {
		verdict_new(skb, s, (struct ct_place){ e, kept }, now);
		return;
	}
	verdict_kept(skb, s, e, &s->packet, now);
	if (!s->verdict.reason)
		verdict_known(skb, s, e, kept, now);
}

/* verdict_inner reports whether the packet that an ICMP error quotes belongs to a
 * flow that is allowed. It travelled the other way, and the error goes to whoever
 * sent it (RFC 792, RFC 4443, section 2.2): one for anybody else is no error.
 */
static __always_inline int verdict_inner(struct __sk_buff *skb, struct scratch *s, __u64 now)
{
	struct ct_value *e;
	int kept;

	if (parse_packet(skb, 1) || s->quoted.flags & PACKET_LATER_FRAGMENT)
		return 0;
	if (!addr_equal(&s->packet.dst, &s->quoted.src))
		return 0;
	ct_key_of(&s->key, &s->quoted);
	e = ct_find(&s->key, &kept);
	if (!e || e->expires < now)
		return 0;
	verdict_kept(skb, s, e, &s->quoted, now);
	s->verdict.report = 0;
	return !s->verdict.reason;
}

/* verdict_quoted reports whether an ICMP error is about a flow that is allowed,
 * from someone who may speak here.
 */
__noinline int verdict_quoted(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct ipcache_value *sender;
	const struct packet *p;

	if (!s)
		return 0;
	p = &s->packet;
	sender = ipcache_lookup(packet_remote(p));
	if (guard_peer(sender ? sender->flags : 0, p->tunnel, p->outgoing))
		return 0;
	s->quoted = (struct packet){
		.l3 = p->l4 + 8,
		.flags = p->flags & PACKET_IPV6,
		.tunnel = p->tunnel,
		.outgoing = !p->outgoing,
		.quoted = 1,
	};
	return verdict_inner(skb, s, scratch_now(s));
}

static __always_inline void verdict_of(struct __sk_buff *skb, struct scratch *s)
{
	__u64 now = scratch_now(s);
	__u8 flags = s->packet.flags;

	s->verdict.revision = policy_revision();
	if (flags & (PACKET_FIRST_FRAGMENT | PACKET_LATER_FRAGMENT)) {
		s->verdict.reason = fragment_ports(&s->packet, now);
		if (s->verdict.reason)
			return;
	}
	if (flags & PACKET_ICMP_ERROR && verdict_quoted(skb))
		return;
	verdict_flow(skb, s, now);
}

#endif
