// Package mirror keeps a consumer's copy of everything under a prefix.
//
// After an outage it keeps what it had, confirms it against a new list, and
// only then drops what the list lacks. It never empties the copy because etcd
// is away, and never because etcd came back without its data. It does not
// decode values and does not know what they mean.
package mirror
