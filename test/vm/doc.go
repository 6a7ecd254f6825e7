// Command vm boots the kernels that Plexus promises to run on, each of them in a
// virtual machine of its own, and runs the tests of real kernel objects there.
//
// A machine is Debian's cloud kernel and a few programs of the same release, all
// of them in memory: mmdebstrap has apt fetch and verify the packages, and the
// result is kept as one archive for later runs. The tests are compiled here and
// appended to that archive. QEMU emulates the processor, so that no machine
// needs to support virtual ones.
//
// Whoever looks at the result can rely on it: what the guest does not report is
// a failure, whether its kernel panicked, hung or never booted. How many
// instructions the verifier looked at is compared with budget.yaml.
package main
