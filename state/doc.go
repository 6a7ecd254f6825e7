// Package state holds what is known of the mesh, by the source that said it,
// and merges it into immutable snapshots.
//
// Sources push under a name of their own and never learn who reads. The package
// decides nothing about what it holds, except which source to believe when two
// speak of the same thing, and does no I/O.
package state
