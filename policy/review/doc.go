// Package review says what a change of policy would do before it is made: which
// mistakes it seems to hold, what it changes on each host, in verdict entries and
// in words, and what it could cut off that people or the mesh depend on.
//
// [Review] is a pure function of the policies before and after, and of the mesh
// as it is known. It compiles both with package policy and compares what the
// compiler says; it judges no packet by rules of its own. Each host that a change
// is about is compiled once before and once after, hosts that are alike together.
//
// The package asks nobody, changes nothing and keeps nothing between two calls.
package review
