// Package publish keeps a few keys of our own in etcd as they should be: a
// host's claim and its leased sign of life, a server's canaries.
//
// It writes what differs, writes again what others remove or change, and
// replaces the lease when etcd forgets it. It touches no key that it was not
// given, and removes nothing when it stops.
package publish
