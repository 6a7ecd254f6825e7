// Package server is the join API of a server: HTTP over TLS 1.3, where hosts
// join, show themselves at their addresses, and leave.
//
// A host that joins proves that it holds a token; all else needs the
// certificate that joining gave, and speaks for the host named in it alone. The
// package decides nothing about hosts (registry does) and logs no body.
package server
