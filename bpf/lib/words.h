/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Two addresses and what belongs to them, in words: how caches look for an entry
 * without a call.
 */
#ifndef PLEXUS_WORDS_H
#define PLEXUS_WORDS_H

/* Another view of struct ct_key, and of struct subject. */
struct words {
	__u64 remote[2];
	__u64 local[2];
	__u64 flow; /* of struct ct_key: ports, protocol, device class */
};
_Static_assert(sizeof(struct words) == sizeof(struct ct_key), "another view of one key");
_Static_assert(sizeof(struct words) == sizeof(struct subject), "another view of one key");

/* words_hash spreads over 24 bits. */
static __always_inline __u32 words_hash(const struct words *w)
{
	__u64 h = (w->remote[1] ^ w->remote[0]) * 0x9e3779b97f4a7c15ULL;

	h ^= h >> 32;
	h += (w->local[1] ^ w->local[0]) + w->flow;
	h *= 0xbf58476d1ce4e5b9ULL;
	h ^= h >> 29;
	h *= 0x94d049bb133111ebULL;
	return h >> 40;
}

static __always_inline int words_equal(const struct words *a, const struct words *b)
{
	return a->flow == b->flow && a->remote[1] == b->remote[1] && a->local[1] == b->local[1] &&
	       a->remote[0] == b->remote[0] && a->local[0] == b->local[0];
}

#endif
