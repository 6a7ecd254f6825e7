// Package agent is the composition root of plexusd: it builds every part, joins
// them, and owns the order in which they start and stop. It depends on the
// world; only cmd/plexusd depends on it.
//
// What the agent should do is decided in plan and policy; how the kernel and
// etcd get there is the drivers' business. Nothing here decides about a packet.
package agent
