// Package schema says where everything is kept in etcd and how it is written
// there: keys, and codecs between bytes and the nouns of the mesh.
//
// What Cilium's ClusterMesh also reads is in its layout, with its field names;
// what that lacks travels in one extra field, Plexus, which its readers
// ignore. The rest lives under plexus/v1/. Decoders take bytes from anybody:
// they never panic, ignore fields they do not know, name the key and the field
// of what they refuse, and believe nothing that contradicts the key it was
// found at. The package is pure; it never talks to etcd.
package schema
