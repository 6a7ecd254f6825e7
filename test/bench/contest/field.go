package contest

import (
	"context"
	"errors"

	"github.com/plexusmesh/plexus/internal/lab"
)

// lane is one filter with its wire.
type lane struct {
	filter
	*wire
	close []func() error
}

// field is all lanes, the first two of which filter nothing.
type field struct {
	lab   *lab.Lab
	lanes []*lane
}

func newField(ctx context.Context) (*field, error) {
	all := filters()
	l, err := lab.New(lab.Options{Prefix: "bench-wire", Hosts: 2 * len(all)})
	if err != nil {
		return nil, err
	}
	f := &field{lab: l}
	for i, what := range all {
		n := &lane{filter: what}
		f.lanes = append(f.lanes, n)
		if err := n.setUp(ctx, [2]*lab.Host{l.Hosts[2*i], l.Hosts[2*i+1]}); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func (n *lane) setUp(ctx context.Context, ends [2]*lab.Host) (err error) {
	n.wire, err = newWire(ctx, ends)
	if err != nil {
		return err
	}
	for s, h := range ends {
		closer, err := n.apply(ctx, h, side(s), ruleset(side(s), n.rules))
		if err != nil {
			return err
		}
		n.close = append(n.close, closer)
	}
	return nil
}

func (f *field) Close() error {
	var errs []error
	for _, n := range f.lanes {
		for _, c := range n.close {
			errs = append(errs, c())
		}
	}
	return errors.Join(append(errs, f.lab.Close())...)
}
