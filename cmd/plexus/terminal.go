package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/api"
)

// sshVariable is set by sshd: "client-address client-port server-address
// server-port" (OpenSSH, ssh(1), ENVIRONMENT).
const sshVariable = "SSH_CONNECTION"

// ownTerminal returns the connection that this command was typed over; nil where
// it is none of SSH.
func ownTerminal() *api.Terminal {
	text, set := os.LookupEnv(sshVariable)
	if !set {
		text = inherited("/proc", os.Getppid())
	}
	return parseTerminal(text)
}

func parseTerminal(text string) *api.Terminal {
	fields := strings.Fields(text)
	if len(fields) != 4 {
		return nil
	}
	remote, err := netip.ParseAddr(fields[0])
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(fields[3], 10, 16)
	if err != nil {
		return nil
	}
	return &api.Terminal{Remote: remote.Unmap().WithZone(""), Port: uint16(port)}
}

// maxAncestors bounds how far inherited looks.
const maxAncestors = 32

// inherited looks for the variable in the environment that process pid and its
// ancestors were started with: sudo clears it, and plexus needs root. What cannot
// be read ends the search, since nothing depends on its success alone.
func inherited(proc string, pid int) string {
	for range maxAncestors {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			return ""
		}
		for entry := range strings.SplitSeq(string(environ), "\x00") {
			if value, ok := strings.CutPrefix(entry, sshVariable+"="); ok {
				return value
			}
		}
		if pid = parentOf(dir); pid <= 1 {
			return ""
		}
	}
	return ""
}

// parentOf reads PPid of /proc/<pid>/status (proc_pid_status(5)); 0 for none.
func parentOf(dir string) int {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			pid, _ := strconv.Atoi(strings.TrimSpace(value))
			return pid
		}
	}
	return 0
}

// attended reports whether a person may be at a terminal: input or output may go
// elsewhere, but not all of it.
func attended() bool {
	return onTerminal(os.Stdin) || onTerminal(os.Stdout) || onTerminal(os.Stderr)
}

// onTerminal reports whether f is a terminal: it has a line discipline
// (ioctl_tty(2), TCGETS).
func onTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
