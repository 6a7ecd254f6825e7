// Package kvtest gives tests a real etcd server, with or without TLS and
// users, that they can stop, restart and compact; and [Store], a stateful
// stand-in for tests of one failure at a time. Nothing but tests imports it.
package kvtest
