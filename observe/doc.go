// Package observe turns the kernel's reports about packets into flows that say
// who spoke with whom, what was decided and by which rule, keeps the last of
// them in memory, and answers questions about them.
//
// It never influences a verdict: nothing here is read by plan.
package observe
