// Package facts finds out what this host needs to stay reachable, whatever
// policy says: the ports of its own mesh, of address configuration, and of the
// SSH server that an operator depends on.
//
// It reads the host and changes nothing.
package facts
