/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way of most packets: one of a flow that this CPU saw a moment ago.
 *
 * On machines whose kernel guards each return against speculation, a call costs
 * more than the work that it does: a hash map's lookup 25 to 35 ns, the clock 40.
 * So nothing here calls. The packet is read in place, and the array lookups and
 * jiffies are instructions that the verifier puts in (on kernels from 6.10; before,
 * that of a per-CPU array is one call).
 *
 * An entry speaks for its flow for CACHE_JIFFIES and for one revision. Then, and
 * for every packet that may change the flow's state, the flow itself is asked
 * (lib/verdict.h), which puts it here again.
 */
#ifndef PLEXUS_CACHE_H
#define PLEXUS_CACHE_H

#define CACHE_JIFFIES 256 /* 0.26 s to 2.6 s, as the kernel was built; far below any lifetime */
#define CACHE_AFTER 8 /* packets: connections without much in them come and go */
#define TCP_CHANGES (TCP_FIN | TCP_SYN | TCP_RST)

static __always_inline __u32 cache_index(const struct words *w)
{
	return words_hash(w) & (CACHE_ENTRIES - 1);
}

static __always_inline int cache_holds(const struct cache_entry *c, const struct words *w)
{
	return words_equal((const struct words *)&c->key, w);
}

static __always_inline void cache_count(struct cache_entry *c, int outgoing, __u32 length)
{
	if (outgoing) {
		c->tx_packets++;
		c->tx_bytes += length;
	} else {
		c->rx_packets++;
		c->rx_bytes += length;
	}
}

/* A plain packet of TCP or UDP, read in place. */
struct brief {
	struct words words;
	__u32 length; /* bytes from the IP header */
	__u8 tcp_flags;
};

static __always_inline __u64 pair(__be32 first, __be32 second)
{
	return (__u64)second << 32 | first;
}

/* brief_transport takes ports, protocol and TCP flags. */
static __always_inline int brief_transport(struct brief *b, const void *l4, const void *end, __u32 protocol, int outgoing, int tunnel)
{
	const __be16 *ports = l4;

	b->tcp_flags = 0;
	if (protocol == IPPROTO_TCP) {
		if (l4 + 20 > end)
			return 0;
		b->tcp_flags = ((const __u8 *)l4)[13];
	} else if (protocol != IPPROTO_UDP || l4 + 8 > end) {
		return 0;
	}
	b->words.flow = (__u64)ports[outgoing] | (__u64)ports[!outgoing] << 16 |
			(__u64)protocol << 32 | (__u64)tunnel << 40;
	return 1;
}

/* brief_ipv4 reads a packet without options that is no fragment. */
static __always_inline int brief_ipv4(struct brief *b, const void *l3, const void *end, int outgoing, int tunnel)
{
	const struct iphdr *ip = l3;
	__u32 length;

	if (l3 + sizeof(*ip) > end || *(const __u8 *)l3 != 0x45 || ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return 0;
	length = bpf_ntohs(ip->tot_len);
	if (length < sizeof(*ip) + (ip->protocol == IPPROTO_TCP ? 20 : 8) || length > b->length)
		return 0;
	b->length = length;
	b->words.remote[0] = 0;
	b->words.local[0] = 0;
	b->words.remote[1] = pair(bpf_htonl(0xffff), outgoing ? ip->daddr : ip->saddr);
	b->words.local[1] = pair(bpf_htonl(0xffff), outgoing ? ip->saddr : ip->daddr);
	return brief_transport(b, l3 + sizeof(*ip), end, ip->protocol, outgoing, tunnel);
}

/* words_mapped reports whether an IPv6 address would be taken for an IPv4 one. */
static __always_inline int words_mapped(const __u64 *a)
{
	return !a[0] && (__u32)a[1] == bpf_htonl(0xffff);
}

/* brief_ipv6 reads a packet without extension headers. */
static __always_inline int brief_ipv6(struct brief *b, const void *l3, const void *end, int outgoing, int tunnel)
{
	const struct ipv6hdr *ip = l3;
	const __be32 *remote, *local;
	__u32 length;

	if (l3 + sizeof(*ip) > end || *(const __u8 *)l3 >> 4 != 6)
		return 0;
	length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (length < sizeof(*ip) + (ip->nexthdr == IPPROTO_TCP ? 20 : 8) || length > b->length)
		return 0;
	b->length = length;
	remote = outgoing ? ip->daddr : ip->saddr;
	local = outgoing ? ip->saddr : ip->daddr;
	b->words.remote[0] = pair(remote[0], remote[1]);
	b->words.remote[1] = pair(remote[2], remote[3]);
	b->words.local[0] = pair(local[0], local[1]);
	b->words.local[1] = pair(local[2], local[3]);
	if (words_mapped(b->words.remote) || words_mapped(b->words.local))
		return 0;
	return brief_transport(b, l3 + sizeof(*ip), end, ip->nexthdr, outgoing, tunnel);
}

/* brief_packet reports whether a packet is plain: TCP or UDP behind IPv4 without
 * options or IPv6 without extension headers, whole, and in place up to its flags.
 */
static __always_inline int brief_packet(struct __sk_buff *skb, struct brief *b, int outgoing, int tunnel)
{
	const void *data = (const void *)(long)skb->data, *end = (const void *)(long)skb->data_end;
	const void *l3 = data + cfg_l2_len;
	__be16 proto;

	if (l3 > end)
		return 0;
	proto = cfg_l2_len ? ((const struct ethhdr *)data)->h_proto : (__be16)skb->protocol;
	b->length = skb->len - cfg_l2_len;
	if (proto == bpf_htons(ETH_P_IP))
		return brief_ipv4(b, l3, end, outgoing, tunnel);
	return proto == bpf_htons(ETH_P_IPV6) && brief_ipv6(b, l3, end, outgoing, tunnel);
}

/* brief_expand makes of it what parse_packet would, without a call. */
static __always_inline void brief_expand(struct packet *p, const struct brief *b, int outgoing, int tunnel)
{
	__be16 remote_port = b->words.flow, local_port = b->words.flow >> 16;

	*p = (struct packet){
		.sport = outgoing ? local_port : remote_port,
		.dport = outgoing ? remote_port : local_port,
		.policy_port = outgoing ? remote_port : local_port,
		.protocol = b->words.flow >> 32,
		.tcp_flags = b->tcp_flags,
		.outgoing = outgoing,
		.tunnel = tunnel,
		.length = b->length,
	};
	__builtin_memcpy(outgoing ? &p->dst : &p->src, b->words.remote, sizeof(struct addr));
	__builtin_memcpy(outgoing ? &p->src : &p->dst, b->words.local, sizeof(struct addr));
}

/* cache_passes reports whether a packet belongs to a flow that is known here, and
 * accounts for it.
 */
static __always_inline int cache_passes(const struct brief *b, int outgoing, int tunnel)
{
	struct cache_entry *c;
	__u32 index;

	if (b->tcp_flags & TCP_CHANGES)
		return 0;
	index = cache_index(&b->words);
	c = bpf_map_lookup_elem(&plexus_cache_v1, &index);
	if (!c || !cache_holds(c, &b->words) || c->revision != policy_revision() || c->until <= bpf_jiffies64())
		return 0;
	if (c->way == (outgoing ? CACHE_INCOMING : CACHE_OUTGOING))
		return 0;
	cache_count(c, outgoing, b->length);
	count(counter_index(DROP_NONE, outgoing, tunnel), b->length);
	return 1;
}

/* cache_settle adds what an entry has counted to its flow. */
static __always_inline void cache_settle(struct cache_entry *c)
{
	struct ct_value *e;
	int kept;

	e = ct_find(&c->key, &kept);
	if (e && e->birth == c->birth) {
		__sync_fetch_and_add(&e->rx_packets, c->rx_packets);
		__sync_fetch_and_add(&e->rx_bytes, c->rx_bytes);
		__sync_fetch_and_add(&e->tx_packets, c->tx_packets);
		__sync_fetch_and_add(&e->tx_bytes, c->tx_bytes);
	}
	c->rx_packets = 0;
	c->rx_bytes = 0;
	c->tx_packets = 0;
	c->tx_bytes = 0;
}

/* A way and a birth in one number: global functions have few parameters. */
static __always_inline __u32 way_and_birth(enum cache_way way, __u16 birth)
{
	return way << 16 | birth;
}

/* cache_way is that of packets which tell a flow nothing new: all of an open one;
 * before there is an answer, those of the side that began, and afterwards, until
 * that side goes on, those of the other.
 */
static __always_inline enum cache_way cache_way(__u8 flags, __u8 direction, int settled)
{
	if (settled)
		return CACHE_BOTH;
	if (flags & CT_REPLY_SEEN)
		direction = !direction;
	return direction == DIRECTION_EGRESS ? CACHE_OUTGOING : CACHE_INCOMING;
}

/* cache_put makes a flow known here for a time, in place of the one that was. */
__noinline int cache_put(struct __sk_buff *skb, __u32 revision, __u32 way_birth)
{
	struct scratch *s = scratch_get();
	struct cache_entry *c;
	__u32 index;

	if (!skb || !s)
		return 0;
	index = cache_index((const struct words *)&s->key);
	c = bpf_map_lookup_elem(&plexus_cache_v1, &index);
	if (!c)
		return 0;
	if (c->rx_packets | c->tx_packets)
		cache_settle(c);
	c->key = s->key;
	c->revision = revision;
	c->way = way_birth >> 16;
	c->birth = way_birth;
	c->until = bpf_jiffies64() + CACHE_JIFFIES;
	return 0;
}

/* cache_end ends what is known here of a flow. A new or a reset connection must be
 * asked itself, and so must what follows it.
 */
static __always_inline void cache_end(const struct ct_key *key)
{
	const struct words *w = (const struct words *)key;
	__u32 index = cache_index(w);
	struct cache_entry *c = bpf_map_lookup_elem(&plexus_cache_v1, &index);

	if (c && cache_holds(c, w))
		c->revision = 0;
}

#endif
