/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the early stage reads of a frame, in place. What is not plain it passes up. */
#ifndef PLEXUS_XDP_PARSE_H
#define PLEXUS_XDP_PARSE_H

#define EARLY_VLAN_TAGS 2 /* MAX_VLAN_TAGS */

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

#endif
