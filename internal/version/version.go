// Package version says which build this is. It decides nothing: features are
// never chosen by it.
package version

import (
	"fmt"
	"runtime"
)

// Set by the linker, see the Makefile.
var (
	// Version is the release, like v0.3.1, or that of a development build.
	Version = "v0.0.0-dev"
	// Commit is the full commit hash, "unknown" outside a git tree.
	Commit = "unknown"
	// Date is the commit's own time, RFC 3339 in UTC, so that two builds of one
	// commit are the same bytes; "unknown" outside a git tree.
	Date = "unknown"
)

// Info is what plexus version prints. Its JSON field names are a contract.
type Info struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Date     string `json:"date"`
	Go       string `json:"go"`
	Platform string `json:"platform"` // operating system/architecture
}

// Get returns the build's own Info.
func Get() Info {
	return Info{
		Version: Version, Commit: Commit, Date: Date,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// String is one line for people.
func (i Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s, %s)", i.Version, i.Commit, i.Date, i.Go, i.Platform)
}
