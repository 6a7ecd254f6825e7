// Command bench measures what the project promises, on whole daemons in
// test hosts: the time from join to the first connection, from a policy to its
// enforcement, throughput beside a WireGuard configured by hand, and memory.
//
// It prints one table; with arguments, only the named measurements (joins, policy,
// throughput, memory). A missed target is a line of that table, never an exit
// code: only a measurement that could not be made ends it with an error.
package main
