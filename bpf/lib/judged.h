/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a CPU judged last. All that decides about a subject has a new revision when
 * it changes, so what was judged under the one in force holds.
 */
#ifndef PLEXUS_JUDGED_H
#define PLEXUS_JUDGED_H

#define JUDGED_JIFFIES 256 /* as CACHE_JIFFIES */

/* judged_place is where this CPU keeps what it judges of a subject. */
static __always_inline struct judged *judged_place(const struct subject *s)
{
	__u32 index = words_hash((const struct words *)s) & (JUDGED_ENTRIES - 1);

	return bpf_map_lookup_elem(&plexus_judged_v1, &index);
}

static __always_inline int judged_holds(const struct judged *j, const struct subject *s, __u32 revision)
{
	return j->until > bpf_jiffies64() && j->revision == revision &&
	       words_equal((const struct words *)&j->subject, (const struct words *)s);
}

static __always_inline void judged_take(const struct judged *j, struct verdict *v)
{
	v->identity = j->identity;
	v->rule = j->rule;
	v->reason = j->reason;
}

static __always_inline void judged_keep(struct judged *j, const struct subject *s, const struct verdict *v)
{
	*j = (struct judged){
		.subject = *s, .until = bpf_jiffies64() + JUDGED_JIFFIES, .revision = v->revision,
		.identity = v->identity, .rule = v->rule, .reason = v->reason,
	};
}

#endif
