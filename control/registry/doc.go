// Package registry keeps a mesh's enrolled hosts, identities, tokens and
// policies in etcd, for every server alike.
//
// Whatever concerns several keys is decided by package control over a snapshot
// and written in one transaction, on condition that nobody has enrolled, removed
// or settled anything since; so any number of servers may act at once. A host's
// etcd user exists only while its record does. The package stores no secret and
// logs none.
package registry
