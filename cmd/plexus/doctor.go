package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/datapath/probe"
)

// examination is what doctor prints. The names are a contract.
type examination struct {
	Kernel  string         `json:"kernel"`
	Verdict probe.Verdict  `json:"verdict"`
	Checks  []probe.Result `json:"checks"`
}

var checkColumns = []column[probe.Result]{
	{head: "CHECK", cell: func(r probe.Result) string { return r.Name }},
	{head: "STATE", cell: func(r probe.Result) string { return string(r.State) }},
	{head: "NEEDED", cell: func(r probe.Result) string { return yesNo(r.Required) }},
	{head: "WITHOUT IT", cell: func(r probe.Result) string { return r.Lost }, wide: true},
}

func newDoctor(a *app) *cobra.Command {
	var o probe.Options
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out whether this machine can run Plexus",
		Long: `doctor tries everything that Plexus uses of a kernel, and says of what is missing
what is lost without it and what to do. It asks no daemon, and works before Plexus
is installed. What it tries it undoes, in a network namespace of its own; trying
may load modules of the kernel, as running plexusd would. Without root, some of
it cannot be told.

It exits with 0 when everything is there, with 3 when Plexus runs without
something, or it cannot be told, and with 1 when Plexus cannot run here.`,
		Example: "  plexus doctor\n  plexus doctor -o json",
		Args:    noArgs,
	}
	cmd.Flags().StringVar(&o.BPFRoot, "bpf-root", "/sys/fs/bpf/plexus", "directory of BPF pins, as plexusd is told")
	mustComplete(cmd, "bpf-root", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	})
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		probes := a.probes
		if probes == nil {
			probes = probe.List
		}
		e := examination{Kernel: probe.Kernel(), Checks: probe.Run(probes(o))}
		e.Verdict = probe.Judge(e.Checks)
		if err := p.print(cmd.OutOrStdout(), e, func(w io.Writer) error { return e.write(w, p.format.value == formatWide) }); err != nil {
			return err
		}
		return e.err()
	}
	return cmd
}

// err is what the exit code says.
func (e examination) err() error {
	switch e.Verdict {
	case probe.Ready:
		return nil
	case probe.Limited:
		return errDegraded
	}
	return errors.New("Plexus cannot run on this machine: see what is missing") //nolint:staticcheck // a name
}

// write prints the table, and below it what is not as it should be.
func (e examination) write(w io.Writer, wide bool) error {
	if err := writeTable(w, e.Checks, shown(checkColumns, wide)); err != nil {
		return err
	}
	for _, r := range e.Checks {
		if r.State != probe.Present && r.Remedy != probe.AskAsRoot {
			fmt.Fprintf(w, "\n%s: %s\n  without it: %s\n  what to do: %s\n  because:    %s\n", r.State, r.Name, r.Lost, r.Remedy, r.Detail)
		}
	}
	if n := e.forRoot(); n > 0 {
		fmt.Fprintf(w, "\nunknown: %d of these checks\n  what to do: %s\n", n, probe.AskAsRoot)
	}
	_, err := fmt.Fprintf(w, "\nkernel %s: %s\n", e.Kernel, e.words())
	return err
}

// words is the verdict in words.
func (e examination) words() string {
	missing, unknown := e.count(probe.Missing), e.count(probe.Unknown)
	var parts []string
	if missing > 0 {
		parts = append(parts, fmt.Sprintf("%d missing", missing))
	}
	if unknown > 0 {
		parts = append(parts, fmt.Sprintf("%d not known", unknown))
	}
	switch e.Verdict {
	case probe.Ready:
		return "everything is there"
	case probe.Limited:
		if missing == 0 {
			return "whether Plexus runs cannot be told: " + strings.Join(parts, ", ")
		}
		return "Plexus runs, as far as can be told: " + strings.Join(parts, ", ")
	}
	return "Plexus cannot run: " + strings.Join(parts, ", ")
}

// forRoot is how many checks only root can make.
func (e examination) forRoot() (n int) {
	for _, r := range e.Checks {
		if r.Remedy == probe.AskAsRoot {
			n++
		}
	}
	return n
}

func (e examination) count(s probe.State) (n int) {
	for _, r := range e.Checks {
		if r.State == s {
			n++
		}
	}
	return n
}
