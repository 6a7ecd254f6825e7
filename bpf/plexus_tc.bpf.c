// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The attach points: what happens to a packet on a governed device. */
#include <uapi.h>
#include <bpf_helpers.h>
#include <bpf_endian.h>

#include "lib/types.h"
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

static __always_inline int finish(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *p = &s->packet;
	__u8 reason = s->verdict.reason;

	count(counter_index(reason, p->outgoing, p->tunnel), p->length);
	if (reason || s->verdict.report)
		report(skb, p, &s->verdict);
	return reason ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

static __always_inline int police(struct __sk_buff *skb, enum direction direction, enum device device)
{
	struct scratch *s = scratch_get();
	__be16 proto;
	__u32 l3;

	if (!s)
		return TC_ACT_SHOT; /* never: it has one entry */
	proto = parse_link(skb, &l3);
	s->packet = (struct packet){ .outgoing = direction, .tunnel = device, .l3 = l3, .length = skb->len - l3 };
	s->verdict = (struct verdict){ .direction = direction };
	if (proto == bpf_htons(ETH_P_IPV6))
		s->packet.flags = PACKET_IPV6;
	else if (proto != bpf_htons(ETH_P_IP))
		return finish(skb, s); /* ARP, LLDP, …: policy speaks of IP alone */
	s->verdict.reason = parse_packet(skb, 0);
	if (!s->verdict.reason && !is_link_upkeep(&s->packet))
		verdict_of(skb, s);
	return finish(skb, s);
}

static __always_inline int decide(struct __sk_buff *skb, enum direction direction, enum device device)
{
	return cache_passes(skb, direction, device) ? TC_ACT_UNSPEC : police(skb, direction, device);
}

SEC("tc")
int from_netdev(struct __sk_buff *skb)
{
	return decide(skb, DIRECTION_INGRESS, NETDEV);
}

SEC("tc")
int to_netdev(struct __sk_buff *skb)
{
	return decide(skb, DIRECTION_EGRESS, NETDEV);
}

SEC("tc")
int from_tunnel(struct __sk_buff *skb)
{
	return decide(skb, DIRECTION_INGRESS, TUNNEL);
}

SEC("tc")
int to_tunnel(struct __sk_buff *skb)
{
	return decide(skb, DIRECTION_EGRESS, TUNNEL);
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
