/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* All maps. They are pinned by name, and the name carries the version of their
 * layout: whoever changes a layout changes the name and migrates in the loader.
 */
#ifndef PLEXUS_MAPS_H
#define PLEXUS_MAPS_H

#define POLICY_SLOTS 2
#define EVENT_BYTES (1 << 20)
#define CACHE_ENTRIES 4096 /* a power of two */
#define JUDGED_ENTRIES 512 /* a power of two */
#define CALLED_BITS 14

/* Longest prefix of an address to its identity and to where it may be seen. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct prefix_key);
	__type(value, struct ipcache_value);
} plexus_ipcache_v1 SEC(".maps");

struct policy_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, struct policy_value);
};

/* Verdicts by slot: one slot judges while the agent fills the other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, POLICY_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__array(values, struct policy_trie);
} plexus_policy_v1 SEC(".maps");

struct cidr_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix_key);
	__type(value, __u32);
};

/* Identities of the CIDR peers that the policy in the same slot names. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, POLICY_SLOTS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__array(values, struct cidr_trie);
} plexus_cidr_v1 SEC(".maps");

/* The revision, and with it the slot in force. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct state);
} plexus_state_v1 SEC(".maps");

/* New flows that pass whatever policy says, by longest prefix of the other side. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct pinhole_key);
	__type(value, __u32);
} plexus_pinhole_v2 SEC(".maps");

/* Flows between members' node addresses that may travel outside the tunnel:
 * WireGuard's own, and the control plane's.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct pinhole_key);
	__type(value, __u32);
} plexus_exempt_v1 SEC(".maps");

/* Open flows: those of which both sides have shown that they are there, and those
 * of them that a later revision denied. None is ever evicted; the agent sweeps
 * what has expired. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct ct_key);
	__type(value, struct ct_value);
} plexus_ct_v2 SEC(".maps");

/* Flows that are opening: a flood of first packets evicts others of its kind
 * from here, and no open flow. Those that found no room above stay here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct ct_key);
	__type(value, struct ct_value);
} plexus_opening_v1 SEC(".maps");

/* The open flows that a CPU saw last (lib/cache.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CACHE_ENTRIES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct cache_entry);
} plexus_cache_v1 SEC(".maps");

/* What a CPU judged last (lib/judged.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, JUDGED_ENTRIES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct judged);
} plexus_judged_v1 SEC(".maps");

/* Whom this host has opened flows to (lib/called.h). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << CALLED_BITS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} plexus_called_v1 SEC(".maps");

/* When strangers who open flows may open the next (lib/limit.h). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct addr);
	__type(value, __u64);
} plexus_limit_v1 SEC(".maps");

/* What a CPU has read of the packet at hand (lib/packet.h). */
struct scratch;
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct scratch);
} plexus_scratch_v1 SEC(".maps");

/* Ports of fragmented packets whose first fragment was seen. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct frag_key);
	__type(value, struct frag_value);
} plexus_frag_v1 SEC(".maps");

/* Packets and bytes by drop reason, direction of the packet and device class
 * (counter_index), and last the events that found the ring full.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTER_EVENTS_LOST + 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct counter);
} plexus_counters_v1 SEC(".maps");

/* Flow events (struct flow_event) for the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENT_BYTES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} plexus_events_v1 SEC(".maps");

#endif
