// Package mesh holds the nouns of a Plexus mesh: what a cluster, a node, an
// endpoint and a WireGuard key are, and which values of them are well formed.
//
// It depends on the standard library alone, decides nothing about them and
// never reads a clock, a file or the network, so that every other package may
// use it.
package mesh
