// Package token reads and writes join tokens: the one pasteable string that
// lets a host join a mesh.
//
// A token says where the servers are, which CA they must show (by the hash of
// its public key), and carries an id and a secret. A checksum tells a damaged
// token from a wrong one before anything is dialled.
//
// The package is pure. It never decides whether a token is still good (a server
// does), and a Token never prints its secret.
package token
