// Package embedded runs an etcd server inside this process, for meshes that
// bring none of their own.
//
// Clients need a certificate of the mesh's CA; its common name is their etcd
// user. There is no plaintext listener, no HTTP gateway and no second door for
// the own agent: it dials a loopback address with its own certificate. The
// package never writes a key and never creates a user.
package embedded
