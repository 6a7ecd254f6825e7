// Package wg brings one WireGuard device to what package encryption decided:
// the device itself, its key, port and mark, and its peers.
//
// The device is the kernel's where the kernel has WireGuard. Elsewhere it is
// wireguard-go in a process of its own, the helper, which outlives the daemon
// and is adopted by the next one. Both are driven through wgctrl.
//
// Ownership: every peer of the device is ours, because the device is; the name
// of the device is the mark, and the helper is told by its PID file.
//
// The package never chooses peers, never logs or returns a private key, and
// never replaces an endpoint that a peer has been heard from.
package wg
