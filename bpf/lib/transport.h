/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Ports, flags and types: what a transport header says of its flow. */
#ifndef PLEXUS_TRANSPORT_H
#define PLEXUS_TRANSPORT_H

enum tcp_flag { /* RFC 9293, section 3.1 */
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

enum sctp_chunk { /* RFC 9260, section 3.2 */
	SCTP_INIT = 1,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN_COMPLETE = 14,
};

enum icmp_type { /* RFC 792, RFC 4443, RFC 4861 */
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
	ICMP6_LAST_ERROR = 127,
	ICMP6_ECHO = 128,
	ICMP6_ECHO_REPLY = 129,
	ICMP6_FIRST_ND = 133,
	ICMP6_LAST_ND = 137,
};

/* The common start of the headers that are read. */
union transport {
	struct {
		__be16 sport;
		__be16 dport;
		__u8 seqs[8];
		__u8 offset;
		__u8 flags;
	} tcp; /* of UDP too, as far as the ports */
	struct {
		__be16 sport;
		__be16 dport;
		__u8 tag[8];
		__u8 chunk;
		__u8 chunk_flags;
	} sctp;
	struct {
		__u8 type;
		__u8 code;
		__be16 checksum;
		__be16 id;
		__be16 sequence;
	} icmp;
};

static __always_inline __u8 sctp_as_tcp(__u8 chunk)
{
	switch (chunk) {
	case SCTP_INIT:
		return TCP_SYN;
	case SCTP_ABORT:
	case SCTP_SHUTDOWN_COMPLETE:
		return TCP_RST;
	}
	return TCP_ACK;
}

/* transport_icmp4 and transport_icmp6 classify. They return whether the packet
 * asks for an echo (1), answers one (2) or neither (0).
 */
static __always_inline int transport_icmp4(struct packet *p)
{
	switch (p->icmp_type) {
	case ICMP_ECHO:
		return 1;
	case ICMP_ECHO_REPLY:
		return 2;
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		p->flags |= PACKET_ICMP_ERROR;
	}
	return 0;
}

/* Neighbour discovery has crossed no router (RFC 4861, section 6.1) and is never
 * in fragments (RFC 6980).
 */
static __always_inline int transport_may_be_nd(const struct packet *p)
{
	return p->flags & PACKET_ON_LINK && !(p->flags & PACKET_FIRST_FRAGMENT);
}

static __always_inline int transport_icmp6(struct packet *p)
{
	if (p->icmp_type == ICMP6_ECHO)
		return 1;
	if (p->icmp_type == ICMP6_ECHO_REPLY)
		return 2;
	if (p->icmp_type <= ICMP6_LAST_ERROR)
		p->flags |= PACKET_ICMP_ERROR;
	else if (p->icmp_type >= ICMP6_FIRST_ND && p->icmp_type <= ICMP6_LAST_ND && transport_may_be_nd(p))
		p->flags |= PACKET_ND;
	return 0;
}

/* transport_icmp gives an echo its identifier on the side that asks, so that
 * two hosts that ask each other with one identifier have two flows. Any other
 * type is a flow by its type and code.
 */
static __always_inline void transport_icmp(struct packet *p, const union transport *h)
{
	int echo;

	p->icmp_type = h->icmp.type;
	p->policy_port = bpf_htons(h->icmp.type << 8 | h->icmp.code);
	echo = p->protocol == IPPROTO_ICMPV6 ? transport_icmp6(p) : transport_icmp4(p);
	p->sport = echo == 1 ? h->icmp.id : echo == 2 ? 0 : p->policy_port;
	p->dport = echo == 2 ? h->icmp.id : echo == 1 ? 0 : p->policy_port;
}

static __always_inline void transport_ports(struct packet *p, const union transport *h)
{
	p->sport = h->tcp.sport;
	p->dport = h->tcp.dport;
	p->policy_port = p->dport;
}

/* transport_size returns how many bytes must be there, 0 for a protocol without
 * ports. Of a quoted packet only 8 are sure to be (RFC 792).
 */
static __always_inline __u32 transport_size(const struct packet *p)
{
	switch (p->protocol) {
	case IPPROTO_TCP:
		return p->quoted ? 8 : 20;
	case IPPROTO_SCTP:
		return p->quoted ? 8 : 16;
	case IPPROTO_UDP:
		return 8;
	case IPPROTO_ICMP:
		return p->flags & PACKET_IPV6 ? 0 : 8;
	case IPPROTO_ICMPV6:
		return p->flags & PACKET_IPV6 ? 8 : 0;
	}
	return 0;
}

static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p)
{
	__u32 need = transport_size(p);
	union transport h = {};

	if (!need)
		return DROP_NONE;
	if (!p->quoted && p->l4 + need > p->l3 + p->length)
		return DROP_TRUNCATED;
	if (need == 8) {
		if (bpf_skb_load_bytes(skb, p->l4, &h, 8))
			return DROP_TRUNCATED;
	} else if (bpf_skb_load_bytes(skb, p->l4, &h, 14)) {
		return DROP_TRUNCATED;
	}
	if (p->protocol == IPPROTO_ICMP || p->protocol == IPPROTO_ICMPV6) {
		transport_icmp(p, &h);
		return DROP_NONE;
	}
	transport_ports(p, &h);
	if (p->protocol == IPPROTO_TCP)
		p->tcp_flags = h.tcp.flags;
	else if (p->protocol == IPPROTO_SCTP)
		p->tcp_flags = sctp_as_tcp(h.sctp.chunk);
	return DROP_NONE;
}

#endif
