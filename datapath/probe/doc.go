// Package probe asks the kernel what it can do for Plexus. It tries each thing
// and never goes by a version, since kernels of distributions have more, and
// less, than their version says.
//
// What is tried is undone at once; devices, rules and attached programs are tried
// in a network namespace that nobody else sees. It loads no library that loads
// programs, as the command line uses it too.
package probe
