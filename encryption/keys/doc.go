// Package keys keeps the WireGuard private key of a host in a file that only
// its owner can read. It never prints a key and never replaces one that is
// there.
package keys
