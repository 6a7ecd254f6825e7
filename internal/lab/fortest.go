package lab

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

// logTail is how much of a daemon's log a failing test prints, in bytes.
const logTail = 16 << 10

// ForTest builds a lab for the length of a test, which needs root. When the test
// fails, it prints the end of every daemon's log.
func ForTest(t testing.TB, opts Options) *Lab {
	t.Helper()
	netnstest.Require(t)
	l, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			l.printLogs(t)
		}
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}

func (l *Lab) printLogs(t testing.TB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.daemons {
		log, err := d.Log()
		if err != nil {
			t.Errorf("log of %s: %v", d.host.Name, err)
			continue
		}
		if cut := len(log) - logTail; cut > 0 {
			log = log[cut:]
		}
		t.Logf("%s on %s:\n%s", d.argv, d.host.Name, bytes.TrimSpace(log))
	}
}

// Eventually polls ok until it returns nil, and fails the test with its last
// error once the time is over.
func Eventually(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := poll(ctx, ok); err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}
