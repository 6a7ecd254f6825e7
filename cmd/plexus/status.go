package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/agent/api"
)

// stateReady is the state of a host that does all it should.
const stateReady = "ready"

// pollInterval is how often --wait asks.
const pollInterval = 100 * time.Millisecond

func newStatus(a *app) *cobra.Command {
	var (
		wait    bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how this host is",
		Long: `status shows the host's place in the mesh, its tunnels, what it learns the mesh
from and what the kernel enforces, with a warning for everything that a person
should know. It exits with 0 when the host is ready and with 3 otherwise.

With --wait it waits for the daemon to answer and for the host to be ready.`,
		Example: "  plexus status\n  plexus status -o json\n  plexus status --wait --timeout 1m",
		Args:    noArgs,
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the host is ready")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long --wait waits")
	p := newPrinter(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ask := a.client().Status
		if wait {
			ask = waiter{ask: ask, timeout: timeout, tell: cmd.ErrOrStderr()}.ready
		}
		s, err := ask(cmd.Context())
		if err != nil {
			return err
		}
		text := statusText{s, newPalette(cmd.OutOrStdout()), time.Now(), p.format.value == formatWide}
		if err := p.print(cmd.OutOrStdout(), s, text.write); err != nil {
			return err
		}
		if s.State != stateReady {
			return errDegraded
		}
		return nil
	}
	return cmd
}

// waiter asks for the status until it is good or time is up.
type waiter struct {
	ask     func(context.Context) (api.Status, error)
	timeout time.Duration
	tell    io.Writer
}

// ready returns the last status; after the timeout that may be one that is not
// ready. While the daemon does not answer at all, it goes on asking too.
func (w waiter) ready(ctx context.Context) (api.Status, error) {
	end := time.After(w.timeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last api.Status
	var lastErr error
	for said := ""; ; {
		s, err := w.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return s, ctx.Err()
		case err == nil && s.State == stateReady, err != nil && !errors.Is(err, api.ErrNotRunning):
			return s, err
		}
		last, lastErr = s, err
		if now := waitingFor(s, err); now != said {
			said = now
			progress(w.tell, "waiting: %s", now)
		}
		select {
		case <-ctx.Done():
			return last, ctx.Err()
		case <-end:
			fmt.Fprintf(w.tell, "plexus: host is not ready after %v: %s\n", w.timeout, waitingFor(last, lastErr))
			return last, lastErr
		case <-tick.C:
		}
	}
}

func waitingFor(s api.Status, err error) string {
	if err != nil {
		return "plexusd does not answer yet"
	}
	synced := 0
	for _, src := range s.Sources {
		if src.Synced {
			synced++
		}
	}
	return fmt.Sprintf("it is %s, with %d of %d sources synced", s.State, synced, len(s.Sources))
}
