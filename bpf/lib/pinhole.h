/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* New flows that no policy can cut. */
#ifndef PLEXUS_PINHOLE_H
#define PLEXUS_PINHOLE_H

static __always_inline int pinhole_open(const struct addr *remote, __u8 direction, __u8 protocol, __be16 port)
{
	struct pinhole_key key = {
		.prefixlen = 160,
		.direction = direction,
		.protocol = protocol,
		.port = port,
		.remote = *remote,
	};

	return bpf_map_lookup_elem(&plexus_pinhole_v2, &key) != NULL;
}

#endif
