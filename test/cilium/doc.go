// Package cilium holds the tests that compare Plexus with Cilium itself: its own
// Go packages read the same policies and judge the same flows.
//
// It is a module of its own, so that nothing of Plexus depends on Cilium's code.
// What may differ stands in one place, with the reason of each: accept_test.go
// for documents, verdicts_test.go for flows.
package cilium
