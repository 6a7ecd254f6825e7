package calm

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWait(t *testing.T) {
	const quiet, latest = time.Second, 5 * time.Second
	for _, tt := range []struct {
		name   string
		every  time.Duration // between changes; 0 for none
		hurry  time.Duration // 0 for nobody
		cancel time.Duration // 0 for never
		want   time.Duration
	}{
		{name: "nothing changes", want: quiet},
		{name: "changes never pause", every: quiet / 2, want: latest},
		{name: "changes pause", every: 2 * quiet, want: quiet},
		{name: "somebody hurries", every: quiet / 2, hurry: 1700 * time.Millisecond, want: 1700 * time.Millisecond},
		{name: "the end", every: quiet / 2, cancel: 2300 * time.Millisecond, want: 2300 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				changes, hurry := make(chan struct{}, 1), make(chan struct{}, 1)
				if tt.every > 0 {
					tick := time.NewTicker(tt.every)
					defer tick.Stop()
					go func() {
						for {
							select {
							case <-tick.C:
								changes <- struct{}{}
							case <-ctx.Done():
								return
							}
						}
					}()
				}
				if tt.hurry > 0 {
					time.AfterFunc(tt.hurry, func() { hurry <- struct{}{} })
				}
				if tt.cancel > 0 {
					time.AfterFunc(tt.cancel, cancel)
				}
				start := time.Now()
				Wait(ctx, Options{Changes: changes, Hurry: hurry, Quiet: quiet, Latest: latest})
				if took := time.Since(start); took != tt.want {
					t.Errorf("waited %v, want %v", took, tt.want)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}
