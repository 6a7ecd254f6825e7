package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plexusmesh/plexus/control/bootstrap"
	"github.com/plexusmesh/plexus/kvstore/embedded"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
)

// A control plane that does not come is tried again, unless its data is damaged,
// and is never the end of what the host does by itself.
func TestAControlPlaneThatDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		s := &serving{logger: kvtest.Logger(t), start: func(context.Context) (*bootstrap.Server, error) {
			if tries.Add(1) < 5 {
				return nil, errors.New("port 2379 is held by etcd")
			}
			return nil, fmt.Errorf("start etcd: %w", embedded.ErrDamaged)
		}}
		m := &member{serving: s}
		a := &agent{now: &session{member: m}}
		s.begin(t.Context())
		if _, _, err := a.registry(); err == nil || !strings.Contains(err.Error(), "held by etcd") {
			t.Errorf("a command for the control plane is answered %v", err)
		}
		if w := m.servingWarnings(); len(w) != 1 || w[0].Code != "server-down" || !strings.Contains(w[0].Text, "held by etcd") {
			t.Errorf("status says %v", w)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		settled(3*servePause + time.Second)
		if n := tries.Load(); n != 4 {
			t.Errorf("tried %d times in three pauses after the first, want 4", n)
		}
		settled(20 * servePause)
		if n := tries.Load(); n != 5 {
			t.Errorf("tried %d times, want none after the data was found damaged", n)
		}
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// A start that hangs does not keep the host from going on.
func TestAControlPlaneThatHangsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{logger: kvtest.Logger(t), start: func(ctx context.Context) (*bootstrap.Server, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		s.begin(t.Context())
		if _, err := s.now(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the control plane is away because of %v", err)
		}
	})
}
