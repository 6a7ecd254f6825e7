// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The attach points: what happens to a packet on a governed device. */
#include <uapi.h>
#include <bpf_helpers.h>
#include <bpf_endian.h>

#include "lib/types.h"
#include "lib/words.h"
#include "lib/config.h"
#include "lib/drop.h"
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/transport.h"
#include "lib/parse.h"
#include "lib/fragment.h"
#include "lib/ipcache.h"
#include "lib/pinhole.h"
#include "lib/policy.h"
#include "lib/judged.h"
#include "lib/judge.h"
#include "lib/called.h"
#include "lib/limit.h"
#include "lib/events.h"
#include "lib/conntrack.h"
#include "lib/cache.h"
#include "lib/verdict.h"

enum device { NETDEV = 0, TUNNEL = 1 };

/* Neighbour discovery keeps a link working and never leaves it. Nothing but a
 * peer can speak out of the tunnel, so what arrives there is judged.
 */
static __always_inline int is_link_upkeep(const struct packet *p)
{
	return p->flags & PACKET_ND && (p->outgoing || !p->tunnel);
}

/* refuse drops a packet. TC_ACT_SHOT tells a sender on this host that there was no
 * room: for the first packet of a connection, or a datagram, as good as any word.
 * TCP with nothing else under way takes its segment for unsent, though, asks for
 * room twice a second, and gives up after 15 times (tcp_retries2): a policy on trial
 * would end connections that it only interrupts. A redirection to no device is a
 * drop without that word, and TCP sends again as for any loss.
 */
static __always_inline int refuse(const struct packet *p)
{
	if (!p->outgoing || p->protocol != IPPROTO_TCP || ct_opens(p))
		return TC_ACT_SHOT;
	return bpf_redirect(0, 0);
}

static __always_inline int finish(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;
	__u8 reason = s->verdict.reason;
	__u64 seen = count(counter_index(reason, p->outgoing, p->tunnel), p->length);

	if (reason || s->verdict.report)
		report(skb, p, &s->verdict, seen);
	return reason ? refuse(p) : TC_ACT_UNSPEC;
}

/* read_packet reads any packet, and reports whether it is for policy to judge. */
static __always_inline int read_packet(struct __sk_buff *skb, struct scratch *s, enum direction direction, enum device device)
{
	struct packet *p = &s->packet;
	__be16 proto;
	__u32 l3;

	proto = parse_link(skb, &l3);
	*p = (struct packet){ .outgoing = direction, .tunnel = device, .l3 = l3, .length = skb->len - l3 };
	if (proto == bpf_htons(ETH_P_IPV6))
		p->flags = PACKET_IPV6;
	else if (proto != bpf_htons(ETH_P_IP))
		return 0; /* ARP, LLDP, …: policy speaks of IP alone */
	s->verdict.reason = parse_packet(skb, 0);
	return !s->verdict.reason && !is_link_upkeep(p);
}

static __always_inline int police(struct __sk_buff *skb, enum direction direction, enum device device)
{
	struct scratch *s;
	struct brief b;
	int plain = brief_packet(skb, &b, direction, device);

	if (plain && cache_passes(&b, direction, device))
		return TC_ACT_UNSPEC;
	s = scratch_get();
	if (!s)
		return TC_ACT_SHOT; /* never: it has one entry */
	s->verdict = (struct verdict){ .direction = direction };
	if (plain)
		brief_expand(&s->packet, &b, direction, device);
	if (plain || read_packet(skb, s, direction, device))
		verdict_of(skb, s);
	return finish(skb, s);
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	return police(skb, DIRECTION_INGRESS, NETDEV);
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	return police(skb, DIRECTION_EGRESS, NETDEV);
}

SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	return police(skb, DIRECTION_INGRESS, TUNNEL);
}

SEC("tc")
int to_tunnel(struct __sk_buff *skb)
{
	return police(skb, DIRECTION_EGRESS, TUNNEL);
}

/* Types that Go needs and no map of its own names: a use makes clang describe
 * them (BTF).
 */
const struct addr *const export_addr = NULL;
const enum direction *const export_direction = NULL;
const enum drop_reason *const export_drop_reason = NULL;
const enum tcp_state *const export_tcp_state = NULL;
const enum ct_flags *const export_ct_flags = NULL;
const enum peer_flags *const export_peer_flags = NULL;
const enum counter_layout *const export_counter_layout = NULL;
const struct flow_event *const export_flow_event = NULL;
const struct prefix_key *const export_prefix_key = NULL;
const struct policy_key *const export_policy_key = NULL;
const struct policy_value *const export_policy_value = NULL;

char _license[] SEC("license") = "Dual BSD/GPL";
