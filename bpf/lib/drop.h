/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Why packets are dropped. The numbers stand in pinned maps: append, never
 * renumber. The words of each are in datapath/bpfobj/reason.go.
 */
#ifndef PLEXUS_DROP_H
#define PLEXUS_DROP_H

enum drop_reason {
	DROP_NONE = 0, /* forwarded */
	DROP_POLICY = 1, /* a policy selects the host and no rule allows the flow */
	DROP_POLICY_DENY = 2, /* a deny rule */
	DROP_NO_POLICY = 3, /* no policy was ever loaded: unknown means deny */
	DROP_MESH_SOURCE_OUTSIDE = 4, /* a mesh address as source outside the tunnel */
	DROP_PLAINTEXT = 5, /* to a mesh address outside the tunnel */
	DROP_LOCAL_SOURCE = 6, /* from outside, with an address of this host as source */
	DROP_TUNNEL_SOURCE = 7, /* out of the tunnel, from no mesh address */
	DROP_TUNNEL_DESTINATION = 8, /* into the tunnel, to no mesh address */
	DROP_TRUNCATED = 9, /* shorter than its headers say */
	DROP_MALFORMED = 10, /* headers that contradict themselves */
	DROP_MAPPED_ADDRESS = 11, /* an IPv4-mapped address in an IPv6 header */
	DROP_EXTENSION_HEADERS = 12, /* more extension headers than MAX_EXTENSION_HEADERS */
	DROP_FRAGMENT = 13, /* a fragment without the first of its packet */
	DROP_NODE_PLAINTEXT = 14, /* between members' node addresses outside the tunnel */
	DROP_TUNNEL_LOCAL = 15, /* in the tunnel, and on this side from or to no address of this host */
	DROP_RATE_LIMIT = 16, /* more from one source than the limit allows */
	DROP_REASONS = 17, /* how many there are */
};

enum counter_layout {
	COUNTER_EVENTS_LOST = 64 * 4, /* leaves room for 64 reasons */
	COUNTER_TABLE_FULL = 63 * 4, /* flows that found no room among the open ones */
};
_Static_assert(DROP_REASONS * 4 <= COUNTER_TABLE_FULL, "more reasons than counters");

static __always_inline __u32 counter_index(__u8 reason, __u8 direction, __u8 tunnel)
{
	return reason * 4 + direction * 2 + tunnel;
}

#endif
