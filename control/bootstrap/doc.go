// Package bootstrap makes the first server of a mesh, and starts a server that
// was made before.
//
// Init checks everything that it can before it makes anything, and removes what
// it made when it fails. The package composes; it decides nothing about hosts
// and runs nothing by itself.
package bootstrap
