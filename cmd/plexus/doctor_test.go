package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath/probe"
)

// planted are probes of a machine that is as the environment says.
func planted(probe.Options) []probe.Probe {
	ask := func(variable string) func() error {
		return func() error {
			switch os.Getenv(variable) {
			case "missing":
				return probe.Absent(unix.EOPNOTSUPP)
			case "unknown":
				return errors.New("no answer")
			}
			return nil
		}
	}
	return []probe.Probe{
		{Name: "rings", Required: true, Lost: "nothing works", Remedy: "run another kernel", Ask: ask("RINGS")},
		{Name: "new links", Lost: "links are old", Remedy: "run a newer kernel", Ask: ask("NEW")},
		{Name: "old links", Required: true, Unless: "new links", Lost: "there are no links", Remedy: "load old-links", Ask: ask("OLD")},
	}
}

// plantedMain is the command line on such a machine.
func plantedMain() { os.Exit(run(&app{probes: planted})) }
