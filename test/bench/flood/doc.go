// Package flood measures how fast a host drops what comes from prefixes that its
// policy denies: by its programs for traffic control, and by XDP before them, in
// turn. Packets are made as a network card has them, so that what the kernel does to
// make something of each is a part of what is compared.
package flood
