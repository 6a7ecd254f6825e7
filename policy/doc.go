// Package policy reads Cilium's policy language, as far as a host can enforce
// it, and compiles it for one host into the verdicts that the kernel looks up.
//
// [Parse] refuses what it cannot enforce, naming file, line, field and remedy;
// it never accepts a field and ignores it. [Compile] is a pure function of
// policies, subject and identities: same input, same verdicts. [Verdicts.Judge]
// decides a flow exactly as the kernel does. Everything that explains, tests or
// enforces policy reads this one compiler's output.
//
// The package never opens a file, never asks who an address belongs to, and
// never keeps anything between two calls, except in a [Compiler]: that is the
// same function with a memory.
//
// To read the compiler, begin at compile.go: [Compile] and what it asks of
// peers.go and refer.go, then table.go, which settles deny over allow. What
// compiler.go and its neighbours add makes it fast after a change, and nothing
// else.
package policy
