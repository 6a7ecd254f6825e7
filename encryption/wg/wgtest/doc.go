// Package wgtest stands in for the WireGuard of a kernel in tests. It keeps
// state as WireGuard does, records calls, and can fail the next one. It encrypts
// nothing and opens nothing.
package wgtest
