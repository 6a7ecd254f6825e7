package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
)

func TestParseTerminal(t *testing.T) {
	terminal := func(remote string, port uint16) *api.Terminal {
		return &api.Terminal{Remote: netip.MustParseAddr(remote), Port: port}
	}
	for text, want := range map[string]*api.Terminal{
		"192.0.2.9 50000 192.0.2.1 22":           terminal("192.0.2.9", 22),
		"::ffff:192.0.2.9 50000 ::1 2222":        terminal("192.0.2.9", 2222),
		"fe80::9%eth0 50000 fe80::1%eth0 22":     terminal("fe80::9", 22),
		"":                                       nil,
		"192.0.2.9 50000 192.0.2.1":              nil,
		"client 50000 192.0.2.1 22":              nil,
		"192.0.2.9 50000 192.0.2.1 ssh":          nil,
		"192.0.2.9 50000 192.0.2.1 65536":        nil,
		"192.0.2.9 50000 192.0.2.1 22 and more.": nil,
	} {
		if diff := cmp.Diff(want, parseTerminal(text), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("parseTerminal(%q) (-want +got):\n%s", text, diff)
		}
	}
}

// sudo clears the variable: then it is that of the shell before it.
func TestTerminalOfAnAncestor(t *testing.T) {
	proc := t.TempDir()
	process := func(pid, parent, environ string) {
		dir := filepath.Join(proc, pid)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"status": "Name:\tx\nPPid:\t" + parent + "\n", "environ": environ} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	process("30", "20", "PATH=/bin\x00SUDO_USER=eve\x00")
	process("20", "10", "A=b\x00SSH_CONNECTION=192.0.2.9 5 192.0.2.1 22\x00")
	process("10", "1", "SSH_CONNECTION=older\x00")
	process("40", "1", "A=b\x00")
	process("50", "50", "its own parent\x00")
	for pid, want := range map[int]string{30: "192.0.2.9 5 192.0.2.1 22", 10: "older", 40: "", 50: "", 99: ""} {
		if got := inherited(proc, pid); got != want {
			t.Errorf("inherited from %d = %q, want %q", pid, got, want)
		}
	}
}
