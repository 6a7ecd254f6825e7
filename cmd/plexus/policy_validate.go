package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/policy"
)

// validation is what policy validate prints. Its JSON field names are a contract.
type validation struct {
	Valid    bool          `json:"valid"`
	Policies []validPolicy `json:"policies"`
	Problems []problem     `json:"problems"`
}

type validPolicy struct {
	Name string `json:"name"` // "name" or "namespace/name"
	Kind string `json:"kind"`
	File string `json:"file"`
	Line int    `json:"line"`
}

type problem struct {
	File string `json:"file"`
	Line int    `json:"line"` // 0 for the whole file
	Path string `json:"path"` // of the field
	Text string `json:"text"`
}

func newPolicyValidate() *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "validate -f FILE",
		Short: "Check policy documents without a daemon",
		Long: `validate reads policies as the mesh would, and reports every problem with its file
and line. It speaks to no daemon, so it cannot tell whether a policy selects a
host. It exits with 1 if there is a problem.`,
		Example: "  plexus policy validate -f web.yaml\n  plexus policy validate -f ./policies -o json",
		Args:    filesByFlag,
	}
	addFilesFlag(cmd, &names)
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		files, err := readPolicies(cmd.InOrStdin(), names)
		if err != nil {
			return err
		}
		v, found := validate(files)
		if !v.Valid && p.format.value != formatJSON && p.format.value != formatYAML {
			return found
		}
		err = p.print(cmd.OutOrStdout(), v, func(w io.Writer) error { return writeTable(w, v.Policies, validColumns) })
		if err == nil && !v.Valid {
			err = fmt.Errorf("policies have %d problems", len(v.Problems))
		}
		return err
	}
	return cmd
}

var validColumns = []column[validPolicy]{
	{head: "POLICY", cell: func(p validPolicy) string { return p.Name }},
	{head: "KIND", cell: func(p validPolicy) string { return p.Kind }},
	{head: "FILE", cell: func(p validPolicy) string { return fmt.Sprintf("%s:%d", p.File, p.Line) }},
}

// validate parses every file, and returns all problems also as one error.
func validate(files []api.PolicyFile) (validation, error) {
	policies, err := parsePolicies(files)
	v := validation{Policies: []validPolicy{}, Problems: problemsOf(err)}
	v.Valid = len(v.Problems) == 0
	for _, p := range policies {
		v.Policies = append(v.Policies, validPolicy{p.ID(), string(p.Kind), p.File, p.Line})
	}
	return v, err
}

// parsePolicies reads all files as one set, as an apply does. Its error holds
// every problem of every file; what could be read is returned beside it.
func parsePolicies(files []api.PolicyFile) ([]policy.Policy, error) {
	var policies []policy.Policy
	var errs []error
	for _, f := range files {
		ps, err := policy.Parse(f.Name, f.Data)
		policies, errs = append(policies, ps...), append(errs, err)
	}
	return policies, errors.Join(append(errs, policy.Duplicates(policies))...)
}

// problemsOf takes the joined errors of package policy apart.
func problemsOf(err error) []problem {
	out := []problem{}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			out = append(out, problemsOf(e)...)
		}
		return out
	}
	if p := new(policy.Problem); errors.As(err, &p) {
		out = append(out, problem{p.File, p.Line, p.Path, p.Text})
	}
	return out
}
