// Package api is how plexus speaks to a running plexusd: JSON over HTTP on the
// daemon's Unix socket. The field names of its types are a contract, because
// every command prints them with -o json.
//
// It serves whatever a Backend answers and decides nothing itself.
package api
