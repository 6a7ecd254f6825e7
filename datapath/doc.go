// Package datapath describes what the kernel of one host should hold: which
// address has which identity, which links are governed, which routes lead into
// the tunnel. It is pure; the packages below it bring the kernel there.
package datapath
