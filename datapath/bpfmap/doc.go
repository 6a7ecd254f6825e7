// Package bpfmap reads and writes the pinned maps of the programs in bpf/, each
// behind a type that speaks the nouns of the mesh. A change that could alter the
// verdict on a known flow makes the kernel judge flows again at their next
// packet, so that no caller can forget to.
//
// It never opens, pins or attaches anything: package loader does, and hands the
// maps over. It decides nothing about what they should hold.
package bpfmap
