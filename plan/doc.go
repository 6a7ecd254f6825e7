// Package plan decides what this host should hold: from a snapshot of the mesh
// and the facts of this host it computes the whole desired state.
//
// Build is a function. It reads no clock, keeps no memory of earlier calls, and
// never hears from the kernel: what it returns depends on its arguments alone.
// Everything is computed anew each time; differences are found downstream.
package plan
