// Package client is the joining host's side of the join API: it joins, shows
// itself to servers at its addresses, and leaves.
//
// Before it has joined, a host trusts nothing but the hash in its token: the
// server must show the CA of that hash and a certificate of that CA for the
// address that was dialled, and only then is the token's secret sent. The
// package keeps what joining gave in files of its own; it configures nothing.
package client
