// Package control is what a server decides: who may join, which address and
// identity a host gets, and which of a host's claims become facts.
//
// It is pure, and holds the messages that a host and a server exchange. What it
// decides is carried out by its children: registry (the store), lead (the
// duties of the leading server), server and client (the join API), bootstrap
// (the first server). It never believes a host about its labels, and never puts
// a secret into an error.
package control
