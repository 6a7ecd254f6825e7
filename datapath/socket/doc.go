// Package socket lists the connections that this host's sockets have, and the
// flows that the kernel tracks for others behind it, so that those which were open
// before policy was enforced can be made known to connection tracking in the
// direction that they were opened in. It ends connections from the addresses of a
// mesh that the host has left.
//
// It speaks sock_diag(7) and ctnetlink.
package socket
