// Package traffic makes load between two network namespaces of this machine and
// counts what arrives: datagrams, the bytes of one TCP connection, or new
// connections.
//
// Sockets are opened once, in the namespace that they belong to; one measurement
// then takes a fraction of a second. So a caller can have many of them in turn
// with those of other namespaces, and compare neighbours: what else the machine
// does harms them alike. Threads that send are pinned to one CPU and those that
// receive to another, where there are two.
package traffic
