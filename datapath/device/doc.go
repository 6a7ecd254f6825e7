// Package device finds the network interfaces that join this host to others,
// says when they change, and brings the tunnel interface up with its addresses.
//
// It changes nothing but the tunnel interface, and no sysctl at all. Mesh
// traffic passes reverse-path filtering in both its modes (rp_filter 1 and 2),
// because the route back to every mesh address leads into the tunnel.
package device
