/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How many new flows a stranger may open (datapath.sourceLimit). One word tells when
 * a source would be through if its flows came evenly (the generic cell rate
 * algorithm, ITU-T I.371): it may be ahead of that by LIMIT_BURST.
 */
#ifndef PLEXUS_LIMIT_H
#define PLEXUS_LIMIT_H

#define LIMIT_BURST 1000000000ULL /* nanoseconds: as many flows at once as in a second */

/* Nanoseconds between two flows of one source; 0 for no limit. */
volatile const __u64 cfg_limit_gap = 0;

/* limit_source is whose flows count together. An IPv6 host may take any address of its
 * /64. All neighbours of a link share fe80::/64, and only they can use it.
 */
static __always_inline struct addr limit_source(const struct addr *a)
{
	struct addr source = *a;

	if (!addr_is_mapped(a) && !(a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80)) {
		addr_words(&source)[2] = 0;
		addr_words(&source)[3] = 0;
	}
	return source;
}

/* limit_over reports whether a source has used up what it may. */
static __always_inline int limit_over(const struct addr *remote, __u64 now)
{
	struct addr source = limit_source(remote);
	__u64 *due = bpf_map_lookup_elem(&plexus_limit_v1, &source);

	return due && *due > now + LIMIT_BURST;
}

/* limit_take takes one flow from what a source may, and reports whether it had none
 * left. Two CPUs that take at once may take the same one.
 */
static __noinline int limit_take(const struct addr *remote, __u64 now)
{
	struct addr source = limit_source(remote);
	__u64 *due = bpf_map_lookup_elem(&plexus_limit_v1, &source);
	__u64 first = now + cfg_limit_gap;

	if (!due) {
		bpf_map_update_elem(&plexus_limit_v1, &source, &first, BPF_ANY);
		return 0;
	}
	if (*due > now + LIMIT_BURST)
		return 1;
	*due = (*due > now ? *due : now) + cfg_limit_gap;
	return 0;
}

#endif
