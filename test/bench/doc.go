// Command bench measures what the project promises. On whole daemons in test
// hosts: the time from join to the first connection, from a policy to its
// enforcement, throughput beside a WireGuard configured by hand, and memory. On
// wires of their own: the datapath beside other filters (package contest).
//
// It prints tables; with arguments, only the named measurements (joins, policy,
// throughput, memory, changes, datapath). A missed target is a line of the last
// table, never an exit code: only a measurement that could not be made ends it with
// an error.
package main
