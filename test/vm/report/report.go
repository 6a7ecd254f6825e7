// Package report is what a guest and its host say to each other: the jobs, in a
// file of the guest, and lines of JSON on its second serial port.
package report

import "time"

// JobsFile is where the guest finds its jobs, a JSON array of Job.
const JobsFile = "/jobs.json"

// Job is one program for the guest to run.
type Job struct {
	Name    string        // unique in the guest
	Dir     string        // to run in
	Argv    []string      // the program, by its path, and its arguments
	Timeout time.Duration // after which it is killed
}

// Line is one line of the report. A guest that has nothing more to say ends with
// Done; without it, it died.
type Line struct {
	Job    string // that Output and Exit are about
	Output []byte `json:",omitempty"` // what the job printed, in pieces
	Exit   *int   `json:",omitempty"` // its exit code: it has ended; -1 for one that was killed
	Kernel string `json:",omitempty"` // release, in the first line of all
	Done   bool   `json:",omitempty"` // every job has ended
	Error  string `json:",omitempty"` // why the guest gives up
}
