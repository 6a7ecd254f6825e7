// Package localpolicy reads the policies that a host has in files of its own,
// which join those of the mesh for that host alone.
//
// A file counts as a whole or not at all. One that is broken, or that defines
// what another file defines already, is refused with the reason, and what was
// last accepted of it stays in force: an editor that saves half a file must not
// open a host. Only a file that is gone takes its policies with it.
package localpolicy
