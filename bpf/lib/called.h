/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whom this host has opened flows to, by a hash of the address: what comes from
 * others answers nothing, and needs no look into the tables of flows. Addresses share
 * places, and none is forgotten before an agent opens the early stage anew
 * (bpfmap.Flows.Recall). So a place may say too much, and never too little.
 */
#ifndef PLEXUS_CALLED_H
#define PLEXUS_CALLED_H

/* As calledIndex in datapath/bpfmap. */
static __always_inline __u32 called_index(const struct addr *a)
{
	const __u64 *w = (const __u64 *)a;

	return ((w[0] ^ w[1]) * 0x9e3779b97f4a7c15ULL) >> (64 - CALLED_BITS);
}

/* called_note comes after the flow is in its table: an agent that empties the places
 * and then reads the table misses none.
 */
static __always_inline void called_note(const struct addr *remote)
{
	__u32 index = called_index(remote), *place = bpf_map_lookup_elem(&plexus_called_v1, &index);

	if (place && !*place)
		*place = 1;
}

static __always_inline int called(const struct addr *remote)
{
	__u32 index = called_index(remote), *place = bpf_map_lookup_elem(&plexus_called_v1, &index);

	return !place || *place;
}

#endif
