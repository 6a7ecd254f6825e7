// Package plan decides what this host should hold: from a snapshot of the mesh
// and the facts of this host it computes the whole desired state.
//
// Build is a function. It reads no clock and never hears from the kernel: what
// it returns depends on its arguments alone. A [Builder] is the same function
// with a memory that makes it faster and that nothing shows. The whole state is
// planned each time; differences are found downstream.
package plan
