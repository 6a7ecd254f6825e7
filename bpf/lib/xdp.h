/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The early stage: from_netdev's verdict on new flows of denied CIDR peers, and of
 * strangers beyond their limit, before the kernel has made anything of the packet.
 *
 * It asks the same maps, under the same revision, as judge does (lib/policy.h), so
 * there is nothing of its own that could say something else or go stale. What it
 * is not sure of it passes up: from_netdev judges every packet that it sees.
 */
#ifndef PLEXUS_XDP_H
#define PLEXUS_XDP_H

#define EARLY_SLOTS 1024 /* a power of two */
#define EARLY_JIFFIES 256 /* 0.26 s to 2.6 s, as the kernel was built */

/* Counters of the early stage, before those of enum counter_layout. Packets that
 * it drops are counted under their reason too.
 */
enum early_counter {
	COUNTER_EARLY_DROPPED = 62 * 4,
	COUNTER_EARLY_REPORTED = 62 * 4 + 1, /* those of them that an event told of */
};
_Static_assert(DROP_REASONS * 4 <= COUNTER_EARLY_DROPPED, "more reasons than counters");
_Static_assert(COUNTER_EARLY_REPORTED < (int)COUNTER_TABLE_FULL, "two counters in one place");

static __always_inline struct subject early_subject(const struct early *e)
{
	return (struct subject){
		.remote = e->key.remote,
		.local = e->key.local,
		.direction = DIRECTION_INGRESS,
		.protocol = e->key.protocol,
		.port = e->policy_port,
	};
}

/* early_stranger reports whether nothing but policy decides about a source: it is
 * nobody whom the ipcache knows, for whom guards hold too, and no pinhole lets it
 * through.
 */
static __always_inline int early_stranger(const struct subject *s)
{
	return !ipcache_lookup(&s->remote) && !pinhole_open(s);
}

/* early_judge reports whether the entry of the source's own CIDR peer denies the
 * flow: whatever the entries for anyone say, policy_judge then does.
 */
static __always_inline int early_judge(const struct subject *s, struct verdict *v)
{
	struct prefix_key source = { .prefixlen = 128, .addr = s->remote };
	struct policy_key key = { .prefixlen = 64, .direction = DIRECTION_INGRESS };
	__u32 slot = v->revision & (POLICY_SLOTS - 1);
	void *cidrs = bpf_map_lookup_elem(&plexus_cidr_v1, &slot);
	void *verdicts = bpf_map_lookup_elem(&plexus_policy_v1, &slot);
	struct policy_value *own;
	__u32 *identity;

	if (!cidrs || !verdicts)
		return 0;
	identity = bpf_map_lookup_elem(cidrs, &source);
	if (!identity)
		return 0;
	key.identity = v->identity = *identity;
	key.protocol = s->protocol;
	key.port = s->port;
	own = bpf_map_lookup_elem(verdicts, &key);
	if (!own || !own->deny || !early_stranger(s))
		return 0;
	v->rule = own->rule;
	v->reason = DROP_POLICY_DENY;
	return 1;
}

/* early_new reports whether a packet is of no flow that is known in any way, as
 * ct_find and ct_elsewhere would look for it.
 */
static __always_inline int early_new(struct early *e)
{
	int known;

	if (bpf_map_lookup_elem(&plexus_ct_v2, &e->key) || bpf_map_lookup_elem(&plexus_opening_v1, &e->key))
		return 0;
	e->key.tunnel = 1;
	known = bpf_map_lookup_elem(&plexus_ct_v2, &e->key) != NULL;
	e->key.tunnel = 0;
	return !known;
}

/* early_denied reports whether policy denies a new flow by its CIDR peer. A flow that
 * its source once opened is no matter: that is denied by now. Only what this host has
 * opened may have answers.
 */
static __always_inline int early_denied(struct early *e, struct verdict *v)
{
	struct subject s = early_subject(e);
	struct judged *j = judged_place(&s);

	if (!j)
		return 0;
	if (judged_holds(j, &s, v->revision))
		judged_take(j, v);
	else if (early_judge(&s, v))
		judged_keep(j, &s, v);
	else
		return 0;
	if (v->reason != DROP_POLICY_DENY || v->identity < IDENTITY_CIDR)
		return 0;
	return !called(&s.remote) || early_new(e);
}

/* early_limited reports whether a new flow is one too many of its source, as
 * verdict_limited does; policy may deny it too.
 */
static __always_inline int early_limited(struct early *e, struct verdict *v)
{
	struct subject s = early_subject(e);

	if (!cfg_limit_gap || !limit_over(&s.remote, bpf_ktime_get_boot_ns()))
		return 0;
	if (!early_stranger(&s) || !early_new(e))
		return 0;
	v->identity = identity_of_stranger(&s.remote, v->revision & (POLICY_SLOTS - 1));
	v->reason = DROP_RATE_LIMIT;
	return 1;
}

/* When the next event may tell of a source, by a hash of it, on this CPU: so a
 * flood costs the agent no more than it takes to say who floods.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EARLY_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} plexus_early SEC(".maps");

/* early_slot is other than before after some seconds, so that no source is left
 * unnamed for long because another has the same.
 */
static __always_inline __u32 early_slot(const struct addr *source, __u64 now)
{
	const __u64 *a = (const __u64 *)source;
	__u64 h = (a[0] ^ a[1] ^ now >> 12) * 0x9e3779b97f4a7c15ULL;

	return h >> 40 & (EARLY_SLOTS - 1);
}

static __noinline int early_event(struct early *e, struct verdict *v, __u32 ifindex)
{
	struct flow_event *f = bpf_ringbuf_reserve(&plexus_events_v1, sizeof(*f), 0);

	if (!f) {
		count(COUNTER_EVENTS_LOST, 0);
		return 0;
	}
	f->time = bpf_ktime_get_boot_ns();
	f->src = e->key.remote;
	f->dst = e->key.local;
	f->sport = e->key.remote_port;
	f->dport = e->key.local_port;
	f->identity = v->identity;
	f->rule = v->rule;
	f->revision = v->revision;
	f->length = e->length;
	f->ifindex = ifindex;
	f->direction = DIRECTION_INGRESS;
	f->reason = v->reason;
	f->protocol = e->key.protocol;
	f->icmp_type = e->icmp_type;
	f->tcp_flags = e->tcp_flags;
	f->tunnel = 0;
	f->reply = 0;
	f->pad = 0;
	bpf_ringbuf_submit(f, 0);
	count(COUNTER_EARLY_REPORTED, e->length);
	return 0;
}

/* early_drop accounts for a packet that is dropped here. */
static __always_inline void early_drop(struct early *e, struct verdict *v, __u32 ifindex)
{
	__u64 now = bpf_jiffies64(), *next;
	__u32 slot = early_slot(&e->key.remote, now);

	count(counter_index(v->reason, DIRECTION_INGRESS, 0), e->length);
	count(COUNTER_EARLY_DROPPED, e->length);
	next = bpf_map_lookup_elem(&plexus_early, &slot);
	if (!next || now < *next)
		return;
	*next = now + EARLY_JIFFIES;
	early_event(e, v, ifindex);
}

#endif
