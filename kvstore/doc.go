// Package kvstore speaks to etcd for the rest of Plexus: reading and writing
// keys, watching prefixes through outages, holding leases, electing a leader,
// and administering users.
//
// Only packages under kvstore import etcd. The package knows no key by name
// (package schema does), decides nothing about values, and never blocks for
// longer than its context and its own deadline allow.
//
// A prefix always ends in a slash. Wherever a prefix is taken, a string that
// does not end in one names exactly one key; so "hosts/web" can never match
// "hosts/web-2" by accident.
package kvstore
