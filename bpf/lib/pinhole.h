/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* New flows that no policy can cut. */
#ifndef PLEXUS_PINHOLE_H
#define PLEXUS_PINHOLE_H

static __always_inline int pinhole_open(__u8 direction, __u8 protocol, __be16 port)
{
	struct pinhole_key key = { .direction = direction, .protocol = protocol, .port = port };

	return bpf_map_lookup_elem(&plexus_pinhole_v1, &key) != NULL;
}

#endif
