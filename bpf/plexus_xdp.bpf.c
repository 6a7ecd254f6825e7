// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The optional early stage (lib/xdp.h), in two programs: one that is attached, and
 * the one that does the work, which it jumps to for as long as an agent lives.
 */
#include <uapi.h>
#include <bpf_helpers.h>
#include <bpf_endian.h>

#include "lib/types.h"
#include "lib/words.h"
#include "lib/drop.h"
#include "lib/maps.h"
#include "lib/packet.h"
#include "lib/transport.h"
#include "lib/ipcache.h"
#include "lib/pinhole.h"
#include "lib/policy.h"
#include "lib/judged.h"
#include "lib/called.h"
#include "lib/limit.h"
#include "lib/events.h"
#include "lib/xdp_parse.h"
#include "lib/xdp.h"

/* The program that does the work. The kernel empties a map of programs when the
 * last process that has it open is gone, however it went. Until a new agent has
 * attached its own programs for tc, whose tables of flows these programs trust,
 * nothing is dropped here. An older version, which keeps other tables, never
 * has anything dropped here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} plexus_stage SEC(".maps");

SEC("xdp")
int xdp_entry(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &plexus_stage, 0);
	return XDP_PASS;
}

SEC("xdp")
int xdp_early(struct xdp_md *ctx)
{
	const void *data = (const void *)(long)ctx->data, *end = (const void *)(long)ctx->data_end;
	struct verdict v = {};
	struct early e = {};

	if (!early_parse(&e, data, end))
		return XDP_PASS;
	v.revision = policy_revision();
	if (!early_limited(&e, &v) && !early_denied(&e, &v))
		return XDP_PASS;
	early_drop(&e, &v, ctx->ingress_ifindex);
	return XDP_DROP;
}

/* Types of keys and values that no map of its own names, so that clang describes
 * them (BTF).
 */
const enum early_counter *const export_early_counter = NULL;
const struct prefix_key *const export_prefix_key = NULL;
const struct policy_key *const export_policy_key = NULL;
const struct policy_value *const export_policy_value = NULL;

char _license[] SEC("license") = "Dual BSD/GPL";
