package contest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/loader"
	"github.com/plexusmesh/plexus/internal/lab"
)

// filter is something that enforces a policy on both hosts of a wire.
type filter struct {
	name  string
	rules int // 0 where there is no policy
	apply func(ctx context.Context, h *lab.Host, s side, rules []rule) (closer func() error, err error)
}

// The filters, by name: what is measured, and what it is compared with.
const (
	ours  = "Plexus"
	bare  = "no programs"
	again = "no programs, again" // by what two of the same differ
	flat  = "nftables, flat chain"
	sets  = "nftables, set and conntrack"
)

// ruleCounts are the sizes of the policies.
var ruleCounts = []int{10, 1000, 10000}

// filters returns everything that is compared, the reference first.
func filters() []filter {
	all := []filter{{name: bare, apply: nothing}, {name: again, apply: nothing}}
	for _, n := range ruleCounts {
		all = append(all, filter{ours, n, attach}, filter{flat, n, chain(flatChain)}, filter{sets, n, chain(setAndState)})
	}
	return all
}

func nothing(context.Context, *lab.Host, side, []rule) (func() error, error) {
	return func() error { return nil }, nil
}

func chain(text func(side, []rule) string) func(context.Context, *lab.Host, side, []rule) (func() error, error) {
	return func(ctx context.Context, h *lab.Host, s side, rules []rule) (func() error, error) {
		cmd := h.Command(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(text(s, rules))
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("load %d rules into nftables: %w: %.200s", len(rules), err, out)
		}
		return func() error { return nil }, nil
	}
}

// attach loads what ships, as the agent does, and reads the events of new flows,
// as the agent does too.
func attach(ctx context.Context, h *lab.Host, s side, rules []rule) (func() error, error) {
	verdicts, err := compiled(s, rules)
	if err != nil {
		return nil, err
	}
	var d *loader.Datapath
	err = h.Enter(func() (err error) {
		d, err = loader.Open(loader.Options{Root: h.Path("/sys/fs/bpf/plexus"), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		if _, err := d.Maps().Policy.Load(verdicts); err != nil {
			return errors.Join(err, d.Close())
		}
		return d.EnsureLinks([]datapath.Link{{Name: wireDevice}})
	})
	if err != nil {
		return nil, fmt.Errorf("attach programs on %s: %w", h.Name, err)
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Maps().Events.Run(ctx, func(datapath.Event) {}) }()
	return func() error {
		stop()
		return errors.Join(<-done, d.Close())
	}, nil
}
