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
// never keeps anything between two calls.
package policy
