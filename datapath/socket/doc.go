// Package socket lists the connections that this host's sockets have, so that
// those which were open before policy was enforced can be made known to
// connection tracking in the direction that they were opened in.
//
// It reads the kernel through sock_diag(7) and changes nothing.
package socket
