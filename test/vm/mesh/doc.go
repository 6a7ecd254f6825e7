// Package mesh has the test of two whole hosts that make test-vm runs in every
// machine: plexusd and plexus as they ship, on test hosts, with the WireGuard of
// the machine's kernel.
//
// It wants what such a machine has, the programs in the search path and that
// WireGuard, and fails elsewhere.
package mesh
