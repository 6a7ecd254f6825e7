// Package route brings the routes of the mesh into the kernel: prefixes of peers
// into the tunnel, and the pools of mesh addresses nowhere, so that an address
// which no peer has never follows the default route in plaintext.
//
// A [Table] keeps those of the main routing table. A [Detour] leads node addresses
// of direct peers into the tunnel, by a table and rules of its own; it says what
// the kernel must do for that under reverse-path filtering.
//
// Ownership: routes in the main table and in table [DetourTable] with protocol
// number [Protocol], and routing rules with the same number. A route or rule
// without it is never changed or removed, and a route that stands in the way is an
// error that names it.
package route
