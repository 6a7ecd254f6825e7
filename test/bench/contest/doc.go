// Package contest compares Plexus with other filters, side by side: no programs,
// nftables with a flat chain, and nftables with a set and connection tracking, all
// with the same policy.
//
// Each has two hosts on a cable of their own, and is set up once. The same load
// then goes through all of them in turn, in short measurements and many rounds.
// What counts is the median of the ratios within a round.
package contest
