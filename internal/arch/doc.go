// Package arch holds the rules of docs/ARCHITECTURE.md as tests: who may import
// whom, what pure packages must not touch, how large a file may grow. It has no
// code of its own.
package arch
