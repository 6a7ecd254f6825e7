// Package e2e runs real plexusd and plexus processes on the hosts of a lab and
// checks what people rely on, with real traffic between real programs: joining,
// policy, encryption, crashes, leaving, and what a mistake is answered with.
//
// A test drives the daemons as a person would, by the command line; it reads
// JSON with the types of agent/api. It never reaches into a daemon, and it
// builds the two programs itself, so that none of them is stale.
//
// The test binary is also every program that makes traffic: TestMain becomes
// one where the environment says so.
package e2e
