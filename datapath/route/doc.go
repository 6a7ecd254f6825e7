// Package route brings the routes of the mesh into the kernel: prefixes of peers
// into the tunnel, and the pools of mesh addresses nowhere, so that an address
// which no peer has never follows the default route in plaintext.
//
// Ownership: routes in the main table with protocol number [Protocol]. A route
// without it is never changed or removed, and one that stands in the way is an
// error that names it.
package route
