// Package socket lists the connections that this host's sockets have, so that
// those which were open before policy was enforced can be made known to
// connection tracking in the direction that they were opened in. It ends those
// from the addresses of a mesh that the host has left.
//
// It speaks sock_diag(7).
package socket
