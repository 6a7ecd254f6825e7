package localpolicy

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/policy"
)

// Content is what was found under the name of a file.
type Content struct {
	Data []byte
	Err  error // why it could not be read
}

// Problem is why a file is refused.
type Problem struct {
	Path string // of the file, or of the directory
	Kept bool   // whether what was last accepted of it is in force instead
	Err  error
}

// Error says what is wrong, where, and what is in force meanwhile. Of many
// reasons it names the first.
func (p Problem) Error() string {
	text := p.Err.Error()
	if many, ok := p.Err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) > 1 {
		text = fmt.Sprintf("%v (and %d more: plexus policy validate -f %s)", many.Unwrap()[0], len(many.Unwrap())-1, p.Path)
	}
	kept := "nothing of it is in force"
	if p.Kept {
		kept = "what was last accepted stays in force"
	}
	return fmt.Sprintf("%s: %s: correct the file, or remove it with its policies", text, kept)
}

// Set is what the files of a directory say.
type Set struct {
	Policies []policy.Policy   // marked Local, by file and line
	Accepted map[string][]byte // by name of the file: what Policies are written in
	Problems []Problem         // by path
}

// Merge reads what was found in dir, by name of the file. accepted is Accepted of
// the Set before, and parts of it stay where what was found is refused.
func Merge(dir string, accepted map[string][]byte, found map[string]Content) Set {
	m := merge{dir: dir, chosen: make(map[string]choice)}
	for name, c := range found {
		m.choose(name, accepted[name], c)
	}
	for m.clash() {
	}
	return m.set()
}

// choice is the version of a file that counts, and the one before it.
type choice struct {
	data     []byte
	policies []policy.Policy
	before   *choice // what to fall back on if it is refused; nil for nothing
	changed  bool    // whether it is not the accepted one
}

type merge struct {
	dir      string
	chosen   map[string]choice
	problems []Problem
}

// choose takes what was found of a file, or what was accepted of it.
func (m *merge) choose(name string, accepted []byte, found Content) {
	before := m.earlier(name, accepted)
	policies, err := []policy.Policy(nil), found.Err
	if err == nil {
		policies, err = parse(m.path(name), found.Data)
	}
	switch {
	case err != nil:
		m.refuse(name, before, err)
	case before != nil && bytes.Equal(accepted, found.Data):
		m.chosen[name] = *before
	default:
		m.chosen[name] = choice{data: found.Data, policies: policies, before: before, changed: true}
	}
}

// earlier returns the accepted version of a file. A plexusd that understands less
// than the one before it may not read it any more.
func (m *merge) earlier(name string, accepted []byte) *choice {
	if accepted == nil {
		return nil
	}
	policies, err := parse(m.path(name), accepted)
	if err != nil {
		return nil
	}
	return &choice{data: accepted, policies: policies}
}

func parse(path string, data []byte) ([]policy.Policy, error) {
	policies, err := policy.Parse(path, data)
	for i := range policies {
		policies[i].Local = true
	}
	return policies, err
}

func (m *merge) path(name string) string { return filepath.Join(m.dir, name) }

// refuse falls back on the version before, if there is one.
func (m *merge) refuse(name string, before *choice, err error) {
	m.problems = append(m.problems, Problem{Path: m.path(name), Kept: before != nil, Err: err})
	delete(m.chosen, name)
	if before != nil {
		m.chosen[name] = *before
	}
}

// clash refuses one changed file that defines what another file defines too, the
// last by name, and reports whether it did. The accepted versions do not clash
// with each other, so that it ends.
func (m *merge) clash() bool {
	first := make(map[string]string) // file by ID of a policy
	for _, name := range m.order() {
		for _, p := range m.chosen[name].policies {
			other, taken := first[p.ID()]
			if !taken {
				first[p.ID()] = name
				continue
			}
			if c := m.chosen[name]; c.changed && other != name {
				both := slices.Concat(m.chosen[other].policies, c.policies)
				m.refuse(name, c.before, policy.Duplicates(both))
				return true
			}
		}
	}
	return false
}

// order names the accepted files before the changed ones, both sorted: the first
// that defines something keeps it.
func (m *merge) order() []string {
	var accepted, changed []string
	for _, name := range slices.Sorted(maps.Keys(m.chosen)) {
		if m.chosen[name].changed {
			changed = append(changed, name)
		} else {
			accepted = append(accepted, name)
		}
	}
	return append(accepted, changed...)
}

func (m *merge) set() Set {
	out := Set{Accepted: make(map[string][]byte, len(m.chosen)), Problems: m.problems}
	for _, name := range slices.Sorted(maps.Keys(m.chosen)) {
		out.Accepted[name] = m.chosen[name].data
		out.Policies = append(out.Policies, m.chosen[name].policies...)
	}
	slices.SortFunc(out.Problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return out
}
