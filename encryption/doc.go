// Package encryption decides which WireGuard peers a host should have, with
// which key, endpoint and allowed prefixes, and which MTU its tunnel needs.
//
// It is pure: it reads no clock, file or device. Package keys keeps the private
// key, package wg brings the kernel, or wireguard-go, to what is decided here.
// It never decides what a peer may say to us: that is policy's part.
package encryption
