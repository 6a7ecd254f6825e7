// Package round tells those who wait when work that began after they asked has
// ended: what was under way when they asked may have missed what they care for.
package round
