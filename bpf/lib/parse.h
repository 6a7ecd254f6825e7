/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to struct packet. Every read is a checked copy, so that a packet
 * that is not linear in memory is read like any other.
 */
#ifndef PLEXUS_PARSE_H
#define PLEXUS_PARSE_H

#define MAX_EXTENSION_HEADERS 8
#define MAX_VLAN_TAGS 2
#define MAX_HOP_LIMIT 255
#define MAX_OFFSET 0xffff /* into a packet, as the kernel's own helpers take it */

/* parse_link finds the network header and returns the protocol in it. */
static __always_inline __be16 parse_link(struct __sk_buff *skb, __u32 *l3)
{
	struct vlan_hdr tag;
	__be16 proto = 0;
	int i;

	*l3 = cfg_l2_len;
	if (!cfg_l2_len)
		return skb->protocol;
	if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &proto, sizeof(proto)))
		return 0;
#pragma unroll
	for (i = 0; i < MAX_VLAN_TAGS; i++) {
		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, *l3, &tag, sizeof(tag)))
			return 0;
		proto = tag.h_vlan_encapsulated_proto;
		*l3 += sizeof(tag);
	}
	return proto;
}

/* fragment_flags takes offset (in bytes) and "more fragments" of a packet. */
static __always_inline __u8 fragment_flags(int offset, int more)
{
	if (offset)
		return PACKET_LATER_FRAGMENT;
	return more ? PACKET_FIRST_FRAGMENT : 0;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	__u32 header, total;
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return DROP_TRUNCATED;
	header = ip.ihl * 4;
	total = bpf_ntohs(ip.tot_len);
	if (ip.version != 4 || header < sizeof(ip) || (total && total < header))
		return DROP_MALFORMED;
	if (!p->quoted && (p->length < header || p->length < total))
		return DROP_TRUNCATED;
	if (total) /* the kernel leaves 0 in packets over 64 KiB (BIG TCP) */
		p->length = total;
	addr_set_mapped(&p->src, ip.saddr);
	addr_set_mapped(&p->dst, ip.daddr);
	p->protocol = ip.protocol;
	p->l4 = p->l3 + header;
	p->fragment_id = ip.id;
	p->fragment_protocol = ip.protocol;
	p->flags |= fragment_flags(bpf_ntohs(ip.frag_off) & IP_OFFSET, bpf_ntohs(ip.frag_off) & IP_MF);
	return DROP_NONE;
}

/* What the walk over extension headers returns, in one number. */
union walk {
	struct {
		__u16 l4; /* offset of what the packet carries */
		__u16 fragment; /* offset of the fragment header, 0 without one */
		__u8 protocol; /* of what it carries */
		__u8 fragment_protocol; /* as the fragment header says */
		__u8 reason; /* enum drop_reason */
		__u8 flags; /* PACKET_FIRST_FRAGMENT, PACKET_LATER_FRAGMENT */
	};
	__u64 all;
};

/* walk_extensions walks from the fixed IPv6 header to what it carries, as far as
 * end. The headers behind a fragment header that is not the first belong to a
 * packet that is not whole: the walk ends there.
 *
 * It is a global function, which the verifier looks at once by itself: inlined,
 * its loop would multiply with each branch behind it.
 */
__noinline __u64 walk_extensions(struct __sk_buff *skb, __u32 l4, __u32 end, __u32 protocol)
{
	union walk w = { .protocol = protocol };
	struct ipv6_opt_hdr opt;
	struct frag_hdr frag;
	__u8 flags;
	int i;

	for (i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		w.l4 = l4;
		if (l4 > end) {
			w.reason = DROP_TRUNCATED;
			return w.all;
		}
		switch (w.protocol) {
		case IPPROTO_FRAGMENT:
			if (bpf_skb_load_bytes(skb, l4, &frag, sizeof(frag))) {
				w.reason = DROP_TRUNCATED;
				return w.all;
			}
			w.fragment = l4;
			w.protocol = frag.nexthdr;
			w.fragment_protocol = frag.nexthdr;
			l4 += sizeof(frag);
			flags = fragment_flags(bpf_ntohs(frag.frag_off) & IP6_OFFSET, bpf_ntohs(frag.frag_off) & IP6_MF);
			if (flags & PACKET_LATER_FRAGMENT) {
				w.flags = flags;
				w.l4 = l4;
				return w.all;
			}
			w.flags |= flags;
			break;
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
		case IPPROTO_AH:
			if (bpf_skb_load_bytes(skb, l4, &opt, sizeof(opt))) {
				w.reason = DROP_TRUNCATED;
				return w.all;
			}
			l4 += w.protocol == IPPROTO_AH ? (opt.hdrlen + 2) * 4 : (opt.hdrlen + 1) * 8;
			w.protocol = opt.nexthdr;
			break;
		default:
			return w.all;
		}
	}
	w.reason = DROP_EXTENSION_HEADERS;
	return w.all;
}

/* parse_extensions takes what the walk finds. */
static __always_inline int parse_extensions(struct __sk_buff *skb, struct packet *p)
{
	union walk w = {
		.all = walk_extensions(skb, p->l4, p->quoted ? MAX_OFFSET : p->l3 + p->length, p->protocol),
	};
	__be32 id = 0;

	p->l4 = w.l4;
	p->protocol = w.protocol;
	p->flags |= w.flags;
	if (w.reason || !w.fragment)
		return w.reason;
	if (bpf_skb_load_bytes(skb, w.fragment + __builtin_offsetof(struct frag_hdr, identification), &id, sizeof(id)))
		return DROP_TRUNCATED;
	p->fragment_id = id;
	p->fragment_protocol = w.fragment_protocol;
	return DROP_NONE;
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;
	__u32 total;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return DROP_TRUNCATED;
	total = bpf_ntohs(ip.payload_len);
	if (ip.version != 6)
		return DROP_MALFORMED;
	if (total) { /* 0 in a packet over 64 KiB (RFC 2675, BIG TCP) */
		total += sizeof(ip);
		if (!p->quoted && p->length < total)
			return DROP_TRUNCATED;
		p->length = total;
	}
	addr_copy(&p->src, ip.saddr);
	addr_copy(&p->dst, ip.daddr);
	if (addr_is_mapped(&p->src) || addr_is_mapped(&p->dst))
		return DROP_MAPPED_ADDRESS; /* would be taken for IPv4 */
	p->flags |= ip.hop_limit == MAX_HOP_LIMIT ? PACKET_IPV6 | PACKET_ON_LINK : PACKET_IPV6;
	p->protocol = ip.nexthdr;
	p->l4 = p->l3 + sizeof(ip);
	return parse_extensions(skb, p);
}

/* parse_network reads everything from the network header at p->l3 on. */
static __always_inline int parse_network(struct __sk_buff *skb, struct packet *p)
{
	int reason = p->flags & PACKET_IPV6 ? parse_ipv6(skb, p) : parse_ipv4(skb, p);

	if (reason || p->flags & PACKET_LATER_FRAGMENT)
		return reason;
	return parse_transport(skb, p);
}

/* parse_packet reads the packet at hand, or the one that it quotes, into the
 * scratch of this CPU. Its first fields are there. It is a global function, like
 * walk_extensions.
 */
__noinline int parse_packet(struct __sk_buff *skb, __u32 quoted)
{
	struct scratch *s = scratch_get();

	if (!s)
		return DROP_TRUNCATED;
	return parse_network(skb, quoted ? &s->quoted : &s->packet);
}

#endif
