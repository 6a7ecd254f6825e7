// Package ca is the mesh's certificate authority: it makes the CA, and signs the
// certificates of servers and hosts.
//
// A certificate's name is decided here and by its caller, never by the request:
// of a request the public key alone is used. The package keeps its key in files
// of its own and never sends or prints it. It does not decide who may have a
// certificate.
package ca
