/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent hears: counters for every packet, events for what is new. */
#ifndef PLEXUS_EVENTS_H
#define PLEXUS_EVENTS_H

#define WAKEUP_CHECK 16 /* packets that were counted alike */

/* count returns how many packets this CPU had counted there before. */
static __always_inline __u64 count(__u32 index, __u32 bytes)
{
	struct counter *c = bpf_map_lookup_elem(&plexus_counters_v1, &index);

	if (!c)
		return 0;
	c->bytes += bytes;
	return c->packets++;
}

/* wakeup tells whether to wake the agent, which looks by itself several times a
 * second: waking it for each event would cost more than judging the packet, and
 * so would asking each time how full the ring is.
 */
static __always_inline __u64 wakeup(__u64 seen)
{
	if (seen % WAKEUP_CHECK)
		return BPF_RB_NO_WAKEUP;
	return bpf_ringbuf_query(&plexus_events_v1, BPF_RB_AVAIL_DATA) > EVENT_BYTES / 2 ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* report tells the agent of the packet that the counter has as number seen. */
static __noinline int report(struct __sk_buff *skb, struct packet *p, struct verdict *v, __u64 seen)
{
	struct flow_event *e = bpf_ringbuf_reserve(&plexus_events_v1, sizeof(*e), 0);

	if (!e) {
		count(COUNTER_EVENTS_LOST, 0);
		return 0;
	}
	e->time = bpf_ktime_get_boot_ns();
	e->src = p->src;
	e->dst = p->dst;
	e->sport = p->sport;
	e->dport = p->dport;
	e->identity = v->identity;
	e->rule = v->rule;
	e->revision = v->revision;
	e->length = p->length;
	e->ifindex = skb->ifindex;
	e->direction = v->direction;
	e->reason = v->reason;
	e->protocol = p->protocol;
	e->icmp_type = p->icmp_type;
	e->tcp_flags = p->tcp_flags;
	e->tunnel = p->tunnel;
	e->reply = v->reply;
	e->pad = 0;
	bpf_ringbuf_submit(e, wakeup(seen));
	return 0;
}

#endif
