// Package snapshot keeps on disk what this host last knew of its mesh, so that a
// daemon that starts while etcd is away can still plan.
//
// It keeps what sources delivered, as they delivered it, and the host's own
// policy files as they were last accepted. It does not know what any of it
// means: whoever starts with a snapshot reads it with the decoders that read
// etcd, so that a newer daemon judges an old snapshot by its own rules.
//
// A snapshot is signed with the key of the host's certificate. One of another
// mesh or host, or one that was damaged, is refused before any of it is read.
package snapshot
