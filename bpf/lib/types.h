/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Everything that programs and the agent share through maps. bpf2go makes the
 * Go types from here; a changed layout needs a new map name (lib/maps.h).
 */
#ifndef PLEXUS_TYPES_H
#define PLEXUS_TYPES_H

/* Of a flow: that of its first packet, from the host's view. Of a packet: its own. */
enum direction {
	DIRECTION_INGRESS = 0,
	DIRECTION_EGRESS = 1,
};

/* Where packets of an address may be seen. */
enum peer_flags {
	PEER_MESH = 1, /* in the tunnel and nowhere else */
	PEER_LOCAL = 2, /* an address of this host: never the source of a packet that arrives */
	PEER_NODE = 4, /* a node address of a direct peer: in the tunnel, and outside it in exempt flows alone */
};

/* Life of a TCP flow, and of an SCTP one (INIT, data, ABORT and SHUTDOWN COMPLETE). */
enum tcp_state {
	TCP_STATE_NONE = 0, /* another protocol */
	TCP_STATE_SYN = 1, /* opened, no answer acknowledged yet */
	TCP_STATE_ESTABLISHED = 2,
	TCP_STATE_CLOSING = 3, /* reset, or finished by both sides */
};

enum ct_flags {
	CT_REPLY_SEEN = 1,
	CT_FIN_ORIGINAL = 2, /* the side that opened the flow has finished */
	CT_FIN_REPLY = 4,
	CT_OPENED = 8, /* the side that opened the flow has gone on after an answer */
};

/* An address of either family: IPv4 as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2). */
struct addr {
	__u8 bytes[16];
} __attribute__((aligned(4)));
_Static_assert(sizeof(struct addr) == 16, "shared with Go");

/* Key of plexus_ipcache_v1 and of the tries in plexus_cidr_v1. */
struct prefix_key {
	__u32 prefixlen; /* 0 to 128; of IPv4, 96 more than its own */
	struct addr addr;
};
_Static_assert(sizeof(struct prefix_key) == 20, "shared with Go");

struct ipcache_value {
	__u32 identity;
	__u8 flags; /* enum peer_flags */
	__u8 pad[3];
};
_Static_assert(sizeof(struct ipcache_value) == 8, "shared with Go");

/* Key of the tries in plexus_policy_v1. Fields stand in the order in which a
 * prefix may end: identity and direction always count, then the protocol, then
 * leading bits of the port. So the longest match is the most specific entry.
 */
struct policy_key {
	__u32 prefixlen; /* 40: any protocol; 48: any port; up to 64: one port */
	__u32 identity; /* of the peer; 0 for any */
	__u8 direction; /* enum direction */
	__u8 protocol;
	__be16 port; /* of the destination; of ICMP, type and code */
};
_Static_assert(sizeof(struct policy_key) == 12, "shared with Go");

struct policy_value {
	__u8 deny;
	__u8 pad[3];
	__u32 rule;
};
_Static_assert(sizeof(struct policy_value) == 8, "shared with Go");

/* The one entry of plexus_state_v1. Its single word is written at once. */
struct state {
	__u32 revision; /* of what flows are judged by; bit 0 is the slot of policy and CIDRs */
	__u32 pad;
};
_Static_assert(sizeof(struct state) == 8, "shared with Go");

/* Key of plexus_pinhole_v2 and plexus_exempt_v1; the value is kept for flags. The
 * flow always counts, then leading bits of the address of the other side.
 */
struct pinhole_key {
	__u32 prefixlen; /* 32: whoever it is; up to 160: one address */
	__u8 direction; /* enum direction */
	__u8 protocol;
	__be16 port; /* as in struct policy_key */
	struct addr remote;
};
_Static_assert(sizeof(struct pinhole_key) == 24, "shared with Go");

/* Both directions of a flow have one key. The device class is part of it, so
 * that what the tunnel has authenticated is never continued from outside.
 */
struct ct_key {
	struct addr remote;
	struct addr local; /* of this host's side */
	__be16 remote_port; /* of an ICMP echo: the identifier, on the side that asks */
	__be16 local_port;
	__u8 protocol;
	__u8 tunnel;
	__u8 pad[2];
} __attribute__((aligned(8)));
_Static_assert(sizeof(struct ct_key) == 40, "shared with Go");

struct ct_value {
	__u64 expires; /* nanoseconds since boot */
	__u64 rx_packets;
	__u64 rx_bytes;
	__u64 tx_packets;
	__u64 tx_bytes;
	__u32 identity; /* of the remote address when judged */
	__u32 revision; /* judged under it */
	__u32 rule; /* that decided */
	__be16 policy_port; /* that it was judged by */
	__u8 direction; /* of the first packet */
	__u8 tcp_state; /* enum tcp_state */
	__u8 flags; /* enum ct_flags */
	__u8 reason; /* enum drop_reason; not 0 for a flow that a later revision denied */
	__u16 birth; /* tells this flow from others that had its key, for plexus_cache_v1 */
	__u8 pad[4];
};
_Static_assert(sizeof(struct ct_value) == 64, "shared with Go");

/* Which packets of a flow its entry in plexus_cache_v1 speaks for. The others have
 * something to tell the flow.
 */
enum cache_way {
	CACHE_BOTH = 0,
	CACHE_INCOMING = 1,
	CACHE_OUTGOING = 2,
};

/* A flow in plexus_cache_v1, so that its next packets on this CPU need no call.
 * What it counts is added to the flow's own counters when the entry ends.
 */
struct cache_entry {
	struct ct_key key;
	__u64 until; /* in jiffies: then the flow itself is asked */
	__u32 revision; /* judged under it; 0 in an entry without a flow */
	__u32 rx_packets;
	__u32 tx_packets;
	__u8 way; /* enum cache_way */
	__u8 pad;
	__u16 birth; /* of the flow */
	__u64 rx_bytes;
	__u64 tx_bytes;
};
_Static_assert(sizeof(struct cache_entry) == 80, "shared with Go");

/* What of a flow is judged. */
struct subject {
	struct addr remote;
	struct addr local;
	__u8 direction; /* of the flow */
	__u8 protocol;
	__be16 port; /* as in struct policy_key */
	__u8 tunnel;
	__u8 outgoing; /* the packet at hand */
	__u8 pad[2];
} __attribute__((aligned(8)));

/* What was judged of a subject, in plexus_judged_v1. */
struct judged {
	struct subject subject;
	__u64 until; /* in jiffies: then it is judged anew */
	__u32 revision; /* judged under it */
	__u32 identity; /* of the remote address */
	__u32 rule; /* that decided */
	__u8 reason; /* enum drop_reason */
	__u8 pad[3];
};
_Static_assert(sizeof(struct judged) == 64, "a line of most CPUs' caches");

/* Key and value of plexus_frag_v1: what the first fragment said of its packet. */
struct frag_key {
	struct addr src;
	struct addr dst;
	__be32 id;
	__u8 protocol; /* as the IP or the fragment header says */
	__u8 tunnel;
	__u8 pad[2];
};
_Static_assert(sizeof(struct frag_key) == 40, "shared with Go");

struct frag_value {
	__u64 expires; /* nanoseconds since boot */
	__be16 sport;
	__be16 dport;
	__be16 policy_port;
	__u8 protocol; /* behind all extension headers */
	__u8 pad;
};
_Static_assert(sizeof(struct frag_value) == 16, "shared with Go");

struct counter {
	__u64 packets;
	__u64 bytes; /* from the IP header */
};
_Static_assert(sizeof(struct counter) == 16, "shared with Go");

/* What the ring buffer tells the agent: the first packet of a flow, a changed
 * verdict, or a drop.
 */
struct flow_event {
	__u64 time; /* nanoseconds since boot */
	struct addr src;
	struct addr dst;
	__be16 sport;
	__be16 dport;
	__u32 identity; /* of the remote address */
	__u32 rule;
	__u32 revision;
	__u32 length; /* bytes, from the IP header */
	__u32 ifindex;
	__u8 direction; /* of the flow */
	__u8 reason; /* enum drop_reason; 0 for forwarded */
	__u8 protocol;
	__u8 icmp_type;
	__u8 tcp_flags;
	__u8 tunnel;
	__u8 reply; /* against the direction of the flow */
	__u8 pad;
};
_Static_assert(sizeof(struct flow_event) == 72, "shared with Go");

#endif
