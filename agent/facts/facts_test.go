package facts

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 100 0 0 10 0
   2: 0100007F:0016 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000 100 0 0 10 0
`

// procfs builds a process table with one process named comm that has socket 4711.
func procfs(t *testing.T, comm, tcp4 string) string {
	t.Helper()
	root := t.TempDir()
	for dir, files := range map[string]map[string]string{
		"self/net": {"tcp": tcp4},
		"77":       {"comm": comm + "\n"},
		"77/fd":    {},
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(root, dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink("socket:[4711]", filepath.Join(root, "77/fd/3")); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestSSHPorts(t *testing.T) {
	for _, tt := range []struct {
		name, comm, table string
		want              []uint16
	}{
		{"sshd on a port of its own", "sshd", table, []uint16{2222}},
		{"another program", "nginx", table, nil},
		{"socket activation on port 22", "systemd", strings.Replace(table, ":1F90", ":0016", 1), []uint16{22}},
		{"a user's program that calls itself sshd", "sshd", strings.Replace(table, " 0        0 4711", " 1000     0 4711", 1), nil},
		{"nothing listens", "sshd", table[:strings.Index(table, "\n")+1], nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := SSHPorts(procfs(t, tt.comm, tt.table))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSSHPortsNamesWhatItCannotRead(t *testing.T) {
	_, err := SSHPorts(procfs(t, "sshd", strings.Replace(table, ":08AE", ":XXXX", 1)))
	if err == nil || !strings.Contains(err.Error(), "XXXX") {
		t.Errorf("error %v, want the address", err)
	}
}

// The real procfs has the format that the tests above assume.
func TestSocketsOfThisKernel(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all, err := readSockets("/proc", "tcp")
	if err != nil {
		t.Fatal(err)
	}
	listening := map[string]uint16{}
	for _, s := range all {
		if s.state == tcpListen {
			listening[s.inode] = s.local.Port()
		}
	}
	_, text, _ := net.SplitHostPort(l.Addr().String())
	port, _ := strconv.Atoi(text)
	found := portsOf("/proc/self", listening)
	if !slices.Contains(found, uint16(port)) {
		t.Errorf("ports %v of this process, want %d among them", found, port)
	}
}
