/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the other headers know of a packet, of its flow and of the verdict on it. */
#ifndef PLEXUS_PACKET_H
#define PLEXUS_PACKET_H

enum packet_flags {
	PACKET_IPV6 = 1,
	PACKET_ND = 2, /* IPv6 neighbour discovery */
	PACKET_ICMP_ERROR = 4, /* quotes the packet that it is about */
	PACKET_FIRST_FRAGMENT = 8,
	PACKET_LATER_FRAGMENT = 16, /* has no ports of its own */
	PACKET_ON_LINK = 32, /* IPv6 with a hop limit that no router has lowered */
};

struct packet {
	struct addr src;
	struct addr dst;
	__be16 sport; /* as in struct ct_key */
	__be16 dport;
	__be16 policy_port; /* as in struct policy_key */
	__u8 protocol; /* behind all extension headers */
	__u8 tcp_flags; /* of TCP; for SCTP the TCP flags that mean the same */
	__u8 icmp_type;
	__u8 flags; /* enum packet_flags */
	__u8 outgoing; /* its direction, as enum direction */
	__u8 tunnel; /* device class */
	__be32 fragment_id;
	__u32 length; /* bytes from the IP header, at least those it states */
	__u32 l3; /* offsets into the packet */
	__u32 l4;
	__u8 fragment_protocol;
	__u8 quoted; /* whether it is the packet that an ICMP error quotes */
	__u8 pad[2];
};

struct verdict {
	__u32 identity;
	__u32 rule;
	__u32 revision;
	__u8 reason; /* enum drop_reason */
	__u8 direction; /* of the flow */
	__u8 reply;
	__u8 report; /* whether the agent should hear of it */
};

/* What the programs of a CPU know of the packet at hand, one packet at a time:
 * softirqs are off while they run. The verifier does not follow values into a
 * map, so that what was read or decided multiplies no branch behind it, and global
 * functions, which it looks at once by themselves, can share it on every kernel.
 */
struct scratch {
	struct packet packet;
	struct packet quoted; /* that an ICMP error quotes */
	struct subject subject;
	struct verdict verdict;
	__u32 pad;
	struct ct_key key; /* of the flow that is asked about */
	__u64 jiffies; /* when the clock was read */
	__u64 now; /* what it said, in nanoseconds since boot */
};

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&plexus_scratch_v1, &zero);
}

/* scratch_now returns the time since boot, true to a jiffy: reading the clock costs
 * as much as a table's lookup, and lifetimes are counted in seconds.
 */
static __always_inline __u64 scratch_now(struct scratch *s)
{
	__u64 jiffies = bpf_jiffies64();

	if (s->jiffies != jiffies) {
		s->jiffies = jiffies;
		s->now = bpf_ktime_get_boot_ns();
	}
	return s->now;
}

static __always_inline const struct addr *packet_remote(const struct packet *p)
{
	return p->outgoing ? &p->dst : &p->src;
}

static __always_inline const struct addr *packet_local(const struct packet *p)
{
	return p->outgoing ? &p->src : &p->dst;
}

static __always_inline __u32 *addr_words(const struct addr *a)
{
	return (__u32 *)a->bytes;
}

static __always_inline int addr_equal(const struct addr *a, const struct addr *b)
{
	__u32 *x = addr_words(a), *y = addr_words(b);

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __always_inline int addr_is_mapped(const struct addr *a)
{
	__u32 *w = addr_words(a);

	return !(w[0] | w[1]) && w[2] == bpf_htonl(0xffff);
}

static __always_inline void addr_set_mapped(struct addr *a, __be32 v4)
{
	__u32 *w = addr_words(a);

	w[0] = 0;
	w[1] = 0;
	w[2] = bpf_htonl(0xffff);
	w[3] = v4;
}

static __always_inline void addr_copy(struct addr *to, const __be32 *from)
{
	__u32 *w = addr_words(to);

	w[0] = from[0];
	w[1] = from[1];
	w[2] = from[2];
	w[3] = from[3];
}

#endif
