/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* New flows that nothing cuts: pinholes pass whatever policy says, exemptions
 * whatever the guard of members says.
 */
#ifndef PLEXUS_PINHOLE_H
#define PLEXUS_PINHOLE_H

static __always_inline struct pinhole_key pinhole_key_of(const struct subject *s)
{
	return (struct pinhole_key){
		.prefixlen = 160,
		.direction = s->direction,
		.protocol = s->protocol,
		.port = s->port,
		.remote = s->remote,
	};
}

static __always_inline int pinhole_open(const struct subject *s)
{
	struct pinhole_key key = pinhole_key_of(s);

	return bpf_map_lookup_elem(&plexus_pinhole_v2, &key) != NULL;
}

static __always_inline int exempt(const struct subject *s)
{
	struct pinhole_key key = pinhole_key_of(s);

	return bpf_map_lookup_elem(&plexus_exempt_v1, &key) != NULL;
}

#endif
