// Command guest is the first and only program of a virtual machine for tests: it
// makes the machine usable, runs the jobs that it finds, reports each of them on
// the second serial port and has the machine end.
//
// As process 1 it only starts itself anew and buries the dead, so that the
// helpers which tests leave behind are not zombies.
package main
