// Package identity says what a security identity is: which labels it stands
// for, how those labels are written, which of them a selector matches, and how
// identities are numbered.
//
// Everything follows Cilium's encoding, because Cilium clusters read it. The
// package is pure: it never allocates a number (a server does), and never asks
// what an address is.
package identity
