/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The early stage: from_netdev's verdict on new flows of denied CIDR peers, before
 * the kernel has made anything of the packet.
 *
 * It asks the same maps, under the same revision, as judge does (lib/policy.h), so
 * there is nothing of its own that could say something else or go stale. What it
 * is not sure of it passes up: from_netdev judges every packet that it sees.
 */
#ifndef PLEXUS_XDP_H
#define PLEXUS_XDP_H

#define EARLY_VLAN_TAGS 2 /* MAX_VLAN_TAGS */
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

/* The first packet of a new flow, or one that may be. */
struct early {
	struct ct_key key; /* of the flow; remote is the source */
	__u32 length; /* bytes from the IP header */
	__be16 policy_port; /* as in struct policy_key */
	__u8 tcp_flags;
	__u8 icmp_type;
};

/* early_echo takes a ping, as transport_icmp does. All other ICMP is passed up:
 * errors about known flows and neighbour discovery are among it.
 */
static __always_inline int early_echo(struct early *e, const union transport *h, __u8 request)
{
	if (h->icmp.type != request)
		return 0;
	e->icmp_type = request;
	e->policy_port = bpf_htons(request << 8 | h->icmp.code);
	e->key.remote_port = h->icmp.id;
	e->key.local_port = 0;
	return 1;
}

/* early_transport takes what parse_transport does. room is how many bytes of the
 * packet are behind its IP header.
 */
static __always_inline int early_transport(struct early *e, const void *l4, const void *end, __u32 room)
{
	const union transport *h = l4;

	if (room < 8 || l4 + 8 > end)
		return 0;
	if (e->key.protocol == IPPROTO_ICMP)
		return early_echo(e, h, ICMP_ECHO);
	if (e->key.protocol == IPPROTO_ICMPV6)
		return early_echo(e, h, ICMP6_ECHO);
	if (e->key.protocol == IPPROTO_TCP) {
		if (room < 20 || l4 + 20 > end)
			return 0;
		e->tcp_flags = h->tcp.flags;
	}
	e->key.remote_port = h->tcp.sport;
	e->key.local_port = h->tcp.dport;
	e->policy_port = h->tcp.dport;
	return 1;
}

/* early_ipv4 reads a packet without options that is no fragment and lies in one
 * piece in memory, as every packet below the MTU of 1500 does.
 */
static __always_inline int early_ipv4(struct early *e, const void *l3, const void *end)
{
	const struct iphdr *ip = l3;

	if (l3 + sizeof(*ip) > end || *(const __u8 *)l3 != 0x45 || ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return 0;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_ICMP)
		return 0;
	e->length = bpf_ntohs(ip->tot_len);
	if (e->length < sizeof(*ip) || e->length > end - l3)
		return 0;
	e->key.protocol = ip->protocol;
	addr_set_mapped(&e->key.remote, ip->saddr);
	addr_set_mapped(&e->key.local, ip->daddr);
	return early_transport(e, l3 + sizeof(*ip), end, e->length - sizeof(*ip));
}

/* early_ipv6 reads such a packet without extension headers. */
static __always_inline int early_ipv6(struct early *e, const void *l3, const void *end)
{
	const struct ipv6hdr *ip = l3;
	__u32 room;

	if (l3 + sizeof(*ip) > end || *(const __u8 *)l3 >> 4 != 6)
		return 0;
	if (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP && ip->nexthdr != IPPROTO_ICMPV6)
		return 0;
	room = bpf_ntohs(ip->payload_len);
	e->length = room + sizeof(*ip);
	if (e->length > end - l3)
		return 0;
	e->key.protocol = ip->nexthdr;
	addr_copy(&e->key.remote, ip->saddr);
	addr_copy(&e->key.local, ip->daddr);
	if (addr_is_mapped(&e->key.remote) || addr_is_mapped(&e->key.local))
		return 0;
	return early_transport(e, l3 + sizeof(*ip), end, room);
}

/* early_parse reads an Ethernet frame, with as many VLAN tags as parse_link looks
 * behind, and reports whether it is understood.
 */
static __always_inline int early_parse(struct early *e, const void *data, const void *end)
{
	const void *l3 = data + sizeof(struct ethhdr);
	__be16 proto;
	int i;

	if (l3 > end)
		return 0;
	proto = ((const struct ethhdr *)data)->h_proto;
#pragma unroll
	for (i = 0; i < EARLY_VLAN_TAGS; i++) {
		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if (l3 + sizeof(struct vlan_hdr) > end)
			return 0;
		proto = ((const struct vlan_hdr *)l3)->h_vlan_encapsulated_proto;
		l3 += sizeof(struct vlan_hdr);
	}
	if (proto == bpf_htons(ETH_P_IP))
		return early_ipv4(e, l3, end);
	return proto == bpf_htons(ETH_P_IPV6) && early_ipv6(e, l3, end);
}

/* early_denied reports whether the entry of the source's own CIDR peer denies the
 * flow: whatever the entries for anyone say, policy_judge then does.
 */
static __always_inline int early_denied(const struct early *e, struct verdict *v)
{
	struct prefix_key source = { .prefixlen = 128, .addr = e->key.remote };
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
	key.protocol = e->key.protocol;
	key.port = e->policy_port;
	own = bpf_map_lookup_elem(verdicts, &key);
	if (!own || !own->deny)
		return 0;
	v->rule = own->rule;
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

/* early_certain reports whether nothing else decides about a flow: its source is
 * nobody whom the ipcache knows, for whom guards hold too, and no pinhole lets
 * it through.
 */
static __always_inline int early_certain(struct early *e)
{
	struct subject s = {
		.remote = e->key.remote,
		.direction = DIRECTION_INGRESS,
		.protocol = e->key.protocol,
		.port = e->policy_port,
	};

	return !ipcache_lookup(&s.remote) && !pinhole_open(&s) && early_new(e);
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
