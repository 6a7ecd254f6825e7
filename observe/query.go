package observe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/plexusmesh/plexus/policy"
)

// filter reports whether a flow is among those that were asked for.
type filter func(*Flow) bool

// Validate reports everything that q asks for and that has no meaning.
func (q Query) Validate() error {
	_, err := q.compile()
	return err
}

// compile returns the filter that q describes.
func (q Query) compile() (filter, error) {
	var fs []filter
	var errs []error
	add := func(asked bool, parse func() (filter, error)) {
		if !asked {
			return
		}
		f, err := parse()
		fs, errs = append(fs, f), append(errs, err)
	}
	add(!q.Since.IsZero(), func() (filter, error) { return q.since, nil })
	add(q.Verdict != "", q.verdict)
	add(q.StagedVerdict != "", q.stagedVerdict)
	add(q.Protocol != "", q.protocol)
	add(q.Port != 0, func() (filter, error) { return q.port, nil })
	add(q.From != "", q.from)
	add(q.To != "", q.to)
	return all(fs), errors.Join(errs...)
}

func all(fs []filter) filter {
	return func(f *Flow) bool {
		for _, accepts := range fs {
			if !accepts(f) {
				return false
			}
		}
		return true
	}
}

func (q Query) since(f *Flow) bool { return !f.Time.Before(q.Since) }

func (q Query) port(f *Flow) bool { return f.Destination.Port == q.Port }

func (q Query) verdict() (filter, error) {
	want, err := parseVerdict(q.Verdict)
	return func(f *Flow) bool { return f.Verdict == want }, err
}

func (q Query) stagedVerdict() (filter, error) {
	want, err := parseVerdict(q.StagedVerdict)
	if err != nil {
		return nil, fmt.Errorf("staged: %w", err)
	}
	return func(f *Flow) bool { return f.StagedVerdict == want }, nil
}

func parseVerdict(s string) (string, error) {
	v := strings.ToUpper(s)
	if v != Forwarded && v != Dropped {
		return "", fmt.Errorf("verdict %q is unknown: use %s or %s", s, Forwarded, Dropped)
	}
	return v, nil
}

func (q Query) protocol() (filter, error) {
	n, err := policy.ParseProtocol(q.Protocol)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return func(*Flow) bool { return true }, nil
	}
	want := policy.ProtocolName(n)
	return func(f *Flow) bool { return f.Protocol == want }, nil
}

func (q Query) from() (filter, error) {
	m, err := parseSelector(q.From)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	return func(f *Flow) bool { return m(f.Source) }, nil
}

func (q Query) to() (filter, error) {
	m, err := parseSelector(q.To)
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	return func(f *Flow) bool { return m(f.Destination) }, nil
}
