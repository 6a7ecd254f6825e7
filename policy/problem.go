package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// maxProblems is how many problems Parse reports before it only counts.
const maxProblems = 100

// Problem is one reason why a document is refused.
type Problem struct {
	File string // as given to Parse; may be empty
	Line int    // in File, from 1; 0 for the whole file
	Path string // of the field, for example "spec.egress[0].toFQDNs"; may be empty
	Text string // what is wrong and what to do
}

func (p *Problem) Error() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", cmp.Or(p.File, "policy"), p.Line)
	}
	for _, part := range []string{p.Path, p.Text} {
		if where != "" && part != "" {
			where += ": "
		}
		where += part
	}
	return where
}

// joinProblems returns all problems in order of lines as one error, or nil. Its
// parts are of type *Problem.
func joinProblems(ps []*Problem) error {
	slices.SortStableFunc(ps, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	var errs []error
	for i, p := range ps {
		if i == maxProblems {
			p = &Problem{File: p.File, Text: fmt.Sprintf("%d more problems are not shown", len(ps)-i)}
			errs = append(errs, p)
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}
