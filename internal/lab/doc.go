// Package lab builds hosts to run plexusd on: each with its own network, mount
// and UTS namespace, joined by one bridge that stands in a namespace of its own.
// Tests, the demo and the benchmarks share it.
//
// A host has eth0 with documentation addresses (192.0.2.0/24, and
// 2001:db8:1::/64 when asked), a BPF file system at /sys/fs/bpf, and empty
// /run, /etc/plexus and /var/lib/plexus on memory, so that several daemons run
// side by side with their default paths. Everything else of the machine's file
// system shows through. The machine's own interfaces, mounts and files stay
// untouched, apart from one directory /run/plexus-lab-PREFIX.
//
// Every process that a lab starts carries a random mark in its environment.
// Clean-up kills exactly the processes that carry it and those in the network
// namespaces of the marked holders, which catches helpers that a daemon
// detached; it never kills by name. A lab whose owner crashed is swept by the
// next one of the same prefix.
//
// It does not know what plexusd is: no paths of its state, no flags, no waiting
// for its health.
package lab
