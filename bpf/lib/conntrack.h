/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that were judged. One lookup tells what becomes of a packet of one.
 *
 * A flow begins among those that are opening and moves to the open ones when the
 * side that began it goes on after an answer. Nothing is evicted from there.
 *
 * A flow that a later revision denies stays here, marked with the reason, for as
 * long as one side may believe it open. Without that, the next packet of the
 * other side would be judged as the first of a new flow in its own direction,
 * and could re-open what was cut.
 */
#ifndef PLEXUS_CONNTRACK_H
#define PLEXUS_CONNTRACK_H

#define SECONDS 1000000000ULL
#define CT_TCP_SYN (60 * SECONDS)
#define CT_TCP_ESTABLISHED (21600 * SECONDS)
#define CT_TCP_CLOSING (10 * SECONDS)
#define CT_DATAGRAM (60 * SECONDS)
#define CT_DATAGRAM_REPLIED (180 * SECONDS)
#define CT_ICMP (30 * SECONDS)

static __always_inline int ct_has_states(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

static __always_inline void ct_key_of(struct ct_key *key, const struct packet *p)
{
	key->remote = *packet_remote(p);
	key->local = *packet_local(p);
	key->remote_port = p->outgoing ? p->dport : p->sport;
	key->local_port = p->outgoing ? p->sport : p->dport;
	key->protocol = p->protocol;
	key->tunnel = p->tunnel;
	key->pad[0] = 0;
	key->pad[1] = 0;
}

static __always_inline __u64 ct_lifetime(__u8 protocol, __u8 tcp_state, __u8 flags)
{
	switch (tcp_state) {
	case TCP_STATE_SYN:
		return CT_TCP_SYN;
	case TCP_STATE_ESTABLISHED:
		return CT_TCP_ESTABLISHED;
	case TCP_STATE_CLOSING:
		return CT_TCP_CLOSING;
	}
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		return CT_ICMP;
	return flags & CT_REPLY_SEEN ? CT_DATAGRAM_REPLIED : CT_DATAGRAM;
}

/* ct_first_state is that of a flow whose first packet has these flags; one that
 * was open before it was seen is established.
 */
static __always_inline __u8 ct_first_state(__u8 protocol, __u8 tcp_flags)
{
	if (!ct_has_states(protocol))
		return TCP_STATE_NONE;
	if (tcp_flags & TCP_RST)
		return TCP_STATE_CLOSING;
	return tcp_flags & TCP_SYN ? TCP_STATE_SYN : TCP_STATE_ESTABLISHED;
}

/* ct_opens reports whether a packet asks for a new connection. */
static __always_inline int ct_opens(const struct packet *p)
{
	return ct_has_states(p->protocol) && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* ct_live reports whether an entry still speaks for its flow. */
static __always_inline int ct_live(const struct ct_value *e, __u64 now)
{
	return e->expires >= now && !e->reason && e->tcp_state != TCP_STATE_CLOSING;
}

/* ct_covers reports whether an entry decides about a packet. One that opens a
 * connection is new, except for the repetition of the one that opened this: so
 * a peer cannot come back through a flow that we opened.
 */
static __always_inline int ct_covers(const struct ct_value *e, const struct packet *p, __u64 now)
{
	if (e->expires < now)
		return 0;
	return !ct_opens(p) || (e->direction == p->outgoing && ct_live(e, now));
}

static __always_inline __u8 ct_next_state(struct ct_value *e, const struct packet *p, int reply)
{
	__u8 both = CT_FIN_ORIGINAL | CT_FIN_REPLY;

	if (p->tcp_flags & TCP_FIN)
		e->flags |= reply ? CT_FIN_REPLY : CT_FIN_ORIGINAL;
	if (p->tcp_flags & TCP_RST || (e->flags & both) == both)
		return TCP_STATE_CLOSING;
	if (e->tcp_state == TCP_STATE_SYN &&
	    (reply || !(e->flags & CT_REPLY_SEEN) || p->tcp_flags & TCP_SYN))
		return TCP_STATE_SYN;
	/* A reset of an open connection that was not believed, from someone who
	 * guessed, ends here too. One that was refused never opened.
	 */
	if (!(p->tcp_flags & TCP_ACK) || (e->tcp_state == TCP_STATE_CLOSING && !(e->flags & CT_OPENED)))
		return e->tcp_state;
	return TCP_STATE_ESTABLISHED;
}

/* ct_touch accounts for a packet of an allowed flow. */
static __always_inline void ct_touch(struct ct_value *e, const struct packet *p, __u64 now)
{
	int reply = e->direction != p->outgoing;

	if (reply && !(e->flags & CT_REPLY_SEEN))
		e->flags |= CT_REPLY_SEEN;
	if (e->tcp_state)
		e->tcp_state = ct_next_state(e, p, reply);
	e->expires = now + ct_lifetime(p->protocol, e->tcp_state, e->flags);
	if (p->outgoing) {
		__sync_fetch_and_add(&e->tx_packets, 1);
		__sync_fetch_and_add(&e->tx_bytes, p->length);
	} else {
		__sync_fetch_and_add(&e->rx_packets, 1);
		__sync_fetch_and_add(&e->rx_bytes, p->length);
	}
}

/* ct_find returns the entry of a key, and whether it is among the open ones. */
static __always_inline struct ct_value *ct_find(const struct ct_key *key, int *kept)
{
	struct ct_value *e = bpf_map_lookup_elem(&plexus_ct_v2, key);

	*kept = e != NULL;
	return e ? e : bpf_map_lookup_elem(&plexus_opening_v1, key);
}

/* ct_is_open reports whether both sides have shown that they are there: the one
 * that opened the flow has answered an answer. One that answers on its own, as a
 * server does to a forged source, opens nothing. Pings live too shortly.
 */
static __always_inline int ct_is_open(const struct ct_value *e, const struct packet *p)
{
	if (!(e->flags & CT_REPLY_SEEN) || e->direction != p->outgoing)
		return 0;
	if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6)
		return 0;
	return !ct_has_states(p->protocol) || e->tcp_state == TCP_STATE_ESTABLISHED;
}

/* ct_keep moves a flow that has opened to the table from which nothing is
 * evicted, unless it is there, or another CPU has done so meanwhile. It returns
 * whether it moved it; where that table is full, the flow stays where it is. The
 * verdict is that of the packet at hand: another CPU may be judging this flow.
 */
static __noinline int ct_keep(struct scratch *s, struct ct_value *e, int kept)
{
	struct ct_value copy = *e;
	int err;

	if (kept) {
		if (!(e->flags & CT_OPENED))
			e->flags |= CT_OPENED;
		return 0;
	}
	copy.flags |= CT_OPENED;
	copy.revision = s->verdict.revision;
	copy.reason = DROP_NONE;
	err = bpf_map_update_elem(&plexus_ct_v2, &s->key, &copy, BPF_NOEXIST);
	if (err && err != -EEXIST) {
		count(COUNTER_TABLE_FULL, 0);
		return 0;
	}
	bpf_map_delete_elem(&plexus_opening_v1, &s->key);
	return 1;
}

/* What is known of a key whose packet begins a new flow. */
struct ct_place {
	struct ct_value *entry; /* of the flow before, or NULL */
	int kept; /* whether that is among the open ones */
};

/* ct_create makes a new flow known, in the place of the one before. */
static __always_inline void ct_create(struct ct_key *key, const struct packet *p, const struct verdict *v,
				      struct ct_place place, __u64 now)
{
	struct ct_value e = {
		.identity = v->identity,
		.revision = v->revision,
		.rule = v->rule,
		.policy_port = p->policy_port,
		.direction = p->outgoing,
		.tcp_state = ct_first_state(p->protocol, p->tcp_flags),
		.birth = place.entry ? place.entry->birth + 1 : bpf_jiffies64(),
	};

	if (p->tcp_flags & TCP_FIN)
		e.flags = CT_FIN_ORIGINAL;
	e.expires = now + ct_lifetime(p->protocol, e.tcp_state, 0);
	if (p->outgoing) {
		e.tx_packets = 1;
		e.tx_bytes = p->length;
	} else {
		e.rx_packets = 1;
		e.rx_bytes = p->length;
	}
	if (place.kept && place.entry->expires >= now)
		*place.entry = e; /* nobody removes it now */
	else if (place.kept)
		bpf_map_update_elem(&plexus_ct_v2, key, &e, BPF_ANY);
	else
		bpf_map_update_elem(&plexus_opening_v1, key, &e, BPF_ANY);
	if (e.direction == DIRECTION_EGRESS)
		called_note(&key->remote);
}

/* ct_guarded reports whether a flow may go on elsewhere: it is allowed here, or
 * only no longer in this place.
 */
static __always_inline int ct_guarded(__u8 reason)
{
	return reason == DROP_NONE || reason == DROP_NODE_PLAINTEXT ||
	       reason == DROP_TUNNEL_SOURCE || reason == DROP_TUNNEL_DESTINATION;
}

/* ct_elsewhere returns the entry of an open flow that went by the other device
 * class until now: traffic between node addresses moves when hosts become peers,
 * or stop being so.
 */
static __always_inline struct ct_value *ct_elsewhere(struct ct_key *key, const struct packet *p, __u64 now)
{
	struct ct_value *e;

	if (ct_opens(p) || p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6)
		return NULL;
	key->tunnel ^= 1;
	e = bpf_map_lookup_elem(&plexus_ct_v2, key);
	key->tunnel ^= 1;
	if (!e || e->expires < now || e->tcp_state == TCP_STATE_CLOSING || !ct_guarded(e->reason))
		return NULL;
	return e;
}

/* ct_adopt moves such a flow here, with the packet at hand. */
static __noinline int ct_adopt(struct scratch *s, struct ct_value *from, __u64 now)
{
	struct ct_value e = *from;

	e.identity = s->verdict.identity;
	e.rule = s->verdict.rule;
	e.revision = s->verdict.revision;
	e.reason = DROP_NONE;
	ct_touch(&e, &s->packet, now);
	if (bpf_map_update_elem(&plexus_ct_v2, &s->key, &e, BPF_ANY)) {
		count(COUNTER_TABLE_FULL, 0);
		bpf_map_update_elem(&plexus_opening_v1, &s->key, &e, BPF_ANY);
	}
	from->expires = now - 1; /* not long ago, as entries are that the agent removes */
	return 0;
}

/* ct_rejudged keeps a new verdict. Denied, the entry stays for the time that an
 * idle flow would have had, and no packet makes that longer.
 */
static __always_inline void ct_rejudged(struct ct_value *e, const struct verdict *v, __u8 protocol, __u64 now)
{
	if (v->reason && !e->reason)
		e->expires = now + ct_lifetime(protocol, e->tcp_state, e->flags);
	e->identity = v->identity;
	e->rule = v->rule;
	e->reason = v->reason;
	e->revision = v->revision;
}

#endif
