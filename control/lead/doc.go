// Package lead holds the duties of the one server that leads: making facts of
// claims, showing Cilium clusters that this mesh lives, and finishing what
// servers that died left undone.
//
// Leading is no condition for safety: every write is right whoever makes it, and
// a server that has been deposed without noticing does no harm. While nobody
// leads, facts stand.
package lead
