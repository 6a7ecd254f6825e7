// Package calm waits until changes pause, so that many of them are one piece of
// work, and no longer than somebody may be kept waiting.
package calm
