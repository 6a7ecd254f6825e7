// Package loader brings the programs of bpf/ into the kernel and attaches them
// to links: it loads them, opens or creates their pinned maps, and keeps links
// attached through restarts of the agent, with a new program in place of the old
// one in one step.
//
// Closing a Datapath removes nothing: only PruneLinks and Cleanup do. It never
// decides what the maps hold or which links are governed.
package loader
