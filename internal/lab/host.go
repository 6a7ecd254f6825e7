package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Host is one machine of a lab.
type Host struct {
	// Name is also its host name: host-1, host-2…
	Name string
	// Addr4 and Addr6 are its underlay addresses; Addr6 is the zero Addr in a
	// lab without IPv6, and both are in the fabric.
	Addr4, Addr6 netip.Addr

	lab *Lab
	pid int // of the holder
}

// Argv is the command line that runs argv on the host, for callers that replace
// themselves with it.
func (h *Host) Argv(argv ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(h.pid), "--net", "--mount", "--uts", "--"}, argv...)
}

// Environ is this process's environment with the lab's mark, by which Close
// finds whatever was started with it.
func (h *Host) Environ() []string {
	return append(os.Environ(), memberEnv+"="+h.lab.rec.Mark)
}

// Command prepares argv to run on the host as root, with / as its directory.
// The process id of the started command is that of argv itself.
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	full := h.Argv(argv...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.Env = h.Environ()
	return cmd
}

// Output runs argv on the host and returns what it printed to stdout. The error
// carries the command and what it printed to stderr, and wraps *exec.ExitError.
func (h *Host) Output(ctx context.Context, argv ...string) ([]byte, error) {
	out, err := h.Command(ctx, argv...).Output()
	if err == nil {
		return out, nil
	}
	var stderr string
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		stderr = strings.TrimSpace(string(exit.Stderr))
	}
	return out, fmt.Errorf("run %q on %s: %w: %s", strings.Join(argv, " "), h.Name, err, stderr)
}

// Run is Output for its error alone.
func (h *Host) Run(ctx context.Context, argv ...string) error {
	_, err := h.Output(ctx, argv...)
	return err
}

// Path is where this process finds the host's file or directory of that
// absolute path.
func (h *Host) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(h.pid), "root", path)
}
