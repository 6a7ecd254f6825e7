// Package bpfobj holds the compiled programs of bpf/ and the Go types of what
// they share with the agent. All but the words for drop reasons is generated,
// so that C is the one definition. It loads nothing.
package bpfobj
