package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// Exit codes that users and scripts rely on.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitDegraded = 3
)

// settled bounds everything that should take well under a second, on a machine
// that does much else.
const settled = 20 * time.Second

// host is a lab's host with a daemon.
type host struct {
	*lab.Host
	daemon *lab.Daemon
	mesh4  netip.Addr // once it is a member
	mesh6  netip.Addr
}

// newHosts builds a lab and starts a daemon on each of its first n hosts; one
// more host is a stranger to every mesh.
func newHosts(t *testing.T, n int) (hosts []*host, stranger *lab.Host, l *lab.Lab) {
	t.Helper()
	l = lab.ForTest(t, lab.Options{Prefix: labPrefix(t), Hosts: n + 1, IPv6: true})
	for _, h := range l.Hosts[:n] {
		hosts = append(hosts, &host{Host: h})
	}
	for _, h := range hosts {
		h.start(t)
	}
	return hosts, l.Hosts[n], l
}

func labPrefix(t *testing.T) string {
	return "e2e-" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
}

// start starts the daemon with its default paths and waits for its socket.
func (h *host) start(t *testing.T, args ...string) {
	t.Helper()
	var err error
	if h.daemon == nil {
		h.daemon, err = h.StartDaemon(built.plexusd, args...)
	} else {
		err = h.daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, settled, h.Name+" answers", func() error {
		_, err := h.client().Status(t.Context())
		return err
	})
}

// client asks the daemon without starting a process, for polling.
func (h *host) client() *api.Client { return api.NewClient(h.Path(api.DefaultSocket)) }

// result is what a command came to.
type result struct {
	stdout, stderr string
	code           int
}

// plexus runs the command line on the host.
func (h *host) plexus(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, h.Host, "", append([]string{built.plexus}, args...)...)
}

// command runs argv on the host with that standard input.
func command(t *testing.T, h *lab.Host, stdin string, argv ...string) result {
	t.Helper()
	cmd := h.Command(t.Context(), argv...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %q on %s: %v", argv, h.Name, err)
	}
	return result{stdout: out.String(), stderr: errs.String(), code: cmd.ProcessState.ExitCode()}
}

// do runs a command that must succeed and returns what it printed.
func (h *host) do(t *testing.T, args ...string) string {
	t.Helper()
	r := h.plexus(t, args...)
	if r.code != exitOK {
		t.Fatalf("plexus %s on %s: exit code %d: %s", strings.Join(args, " "), h.Name, r.code, r.stderr)
	}
	return r.stdout
}

// refused runs a command that must fail with that exit code and an error that
// has every one of the words, and change nothing that stdout would tell.
func (h *host) refused(t *testing.T, code int, words []string, args ...string) {
	t.Helper()
	h.plexus(t, args...).refused(t, code, words...)
}

func (r result) refused(t *testing.T, code int, words ...string) {
	t.Helper()
	if r.code != code || r.stdout != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q; want exit code %d and an error alone", r.code, r.stdout, r.stderr, code)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("error %q does not say %q", r.stderr, w)
		}
	}
}

// ask runs a command with -o json and decodes its answer, in which every field
// must be known.
func ask[T any](t *testing.T, h *host, args ...string) T {
	t.Helper()
	out := h.do(t, append(args, "-o", "json")...)
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	var v T
	if err := d.Decode(&v); err != nil {
		t.Fatalf("plexus %s on %s: %v in %s", strings.Join(args, " "), h.Name, err, out)
	}
	return v
}

// write puts a file on the host and returns its path there.
func (h *host) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join("/run", name)
	if err := os.WriteFile(h.Path(path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ready says why the host is not ready with n peers, all of them connected.
func (h *host) ready(t *testing.T, n int) func() error {
	return func() error {
		st, err := h.client().Status(t.Context())
		if err != nil {
			return err
		}
		if st.State != "ready" || len(st.Peers) != n {
			return fmt.Errorf("%s is %s with %d peers, warnings %v; want ready with %d", h.Name, st.State, len(st.Peers), st.Warnings, n)
		}
		return nil
	}
}
