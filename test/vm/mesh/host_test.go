package mesh

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// soon bounds what takes a second on a host, in a machine whose processor is
// emulated and whose old verifier takes a minute for the programs.
const soon = 4 * time.Minute

// host is a test host with a daemon.
type host struct {
	*lab.Host
	daemon *lab.Daemon
	node   api.NodeStatus // once it is a member
}

func (h *host) client() *api.Client { return api.NewClient(h.Path(api.DefaultSocket)) }

// start starts the daemon and waits until it answers.
func start(t *testing.T, h *lab.Host) *host {
	t.Helper()
	out := &host{Host: h}
	var err error
	if out.daemon, err = h.StartDaemon("/usr/local/bin/plexusd"); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, h.Name+" answers", func() error {
		_, err := out.client().Status(t.Context())
		return err
	})
	return out
}

// plexus runs the command line, which must succeed, and returns what it prints.
func (h *host) plexus(t *testing.T, args ...string) string {
	t.Helper()
	return h.run(t, append([]string{"/usr/local/bin/plexus"}, args...)...)
}

func (h *host) run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := h.Output(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// write puts a file on the host and returns its path there.
func (h *host) write(t *testing.T, name, text string) string {
	t.Helper()
	path := "/run/" + name
	if err := os.WriteFile(h.Path(path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// enter makes the host a member by a command that prints who it is. On a processor
// as slow as an emulated one that others share, etcd may start too late for it; a
// person would try again.
func (h *host) enter(t *testing.T, args ...string) {
	t.Helper()
	lab.Eventually(t, soon, h.Name+" enters", func() error {
		out, err := h.Output(t.Context(), append(append([]string{"/usr/local/bin/plexus"}, args...), "-o", "json")...)
		if err != nil {
			return err
		}
		var joined api.Joined
		if err := json.Unmarshal(out, &joined); err != nil {
			return err
		}
		h.node = joined.Node
		return nil
	})
}

// ready waits until the host is ready and has a tunnel to n others.
func (h *host) ready(t *testing.T, n int) api.Status {
	t.Helper()
	var st api.Status
	lab.Eventually(t, soon, h.Name+" is ready", func() (err error) {
		st, err = h.client().Status(t.Context())
		if err == nil && (st.State != "ready" || len(st.Peers) != n) {
			err = fmt.Errorf("%s with %d peers, warnings %v", st.State, len(st.Peers), st.Warnings)
		}
		return err
	})
	return st
}

// enforces waits until the host enforces a revision of policy.
func (h *host) enforces(t *testing.T, revision uint64) {
	t.Helper()
	lab.Eventually(t, soon, h.Name+" enforces", func() error {
		st, err := h.client().Status(t.Context())
		if err == nil && st.Datapath.PolicyRevision != revision {
			err = fmt.Errorf("revision %d, want %d", st.Datapath.PolicyRevision, revision)
		}
		return err
	})
}

// drops returns how many packets were dropped for a reason.
func (h *host) drops(t *testing.T, reason string) uint64 {
	t.Helper()
	counters, err := h.client().Counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(counters, func(c api.CounterEntry) bool { return c.Reason == reason && c.Packets > 0 }); i >= 0 {
		return counters[i].Packets
	}
	return 0
}
