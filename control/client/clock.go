package client

import (
	"context"
	"fmt"
	"time"

	"github.com/plexusmesh/plexus/control"
)

// ClockError says that the clocks of this host and of a server are too far
// apart for certificates to be good on both.
type ClockError struct {
	Server string
	Ahead  time.Duration // of this host's clock; negative when it is slow
	Time   time.Time     // on the server
}

func (e *ClockError) Error() string {
	way, by := "ahead of", e.Ahead
	if by < 0 {
		way, by = "behind", -by
	}
	return fmt.Sprintf("the clock of this host is %s %s that of server %s, where it is %s: set the clock (timedatectl, or NTP) and join again",
		by.Round(time.Second), way, e.Server, e.Time.UTC().Format(time.RFC3339))
}

// checkClock compares this host's clock with the server's, before anything is
// asked that a wrong clock would leave half done.
func (r Request) checkClock(ctx context.Context, c *connection) error {
	before := r.now()
	var got control.TimeResponse
	if err := c.get(ctx, control.PathTime, &got); err != nil {
		return err
	}
	if got.Protocol != control.Protocol {
		return control.Errorf(control.CodeVersion, "server %s speaks version %d of the join protocol and this host version %d: install the same plexus on both",
			c.server, got.Protocol, control.Protocol)
	}
	there, err := time.Parse(time.RFC3339Nano, got.Time)
	if err != nil {
		return fmt.Errorf("read clock of server %s: %w", c.server, err)
	}
	here := before.Add(r.now().Sub(before) / 2)
	if ahead := here.Sub(there); ahead.Abs() > maxSkew {
		return &ClockError{Server: c.server, Ahead: ahead, Time: there}
	}
	return nil
}
