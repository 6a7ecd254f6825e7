// Package scenario asks policy about flows that need not exist: what it says to
// each, at which host, and why in words. [Explain] answers questions about a mesh
// as it is known; [Parse] and [Run] read and play files of policy tests, which
// bring a mesh of their own.
//
// Every verdict comes from package policy's compiler and its Judge; the package
// only finds out who the two sides are, and puts the answer into words. It is
// pure: it opens no file and asks nobody.
package scenario
