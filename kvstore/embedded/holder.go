package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listenState is TCP_LISTEN as /proc/net/tcp prints it.
const listenState = "0A"

// holder returns the name and pid of the process that listens on a TCP port of
// this network namespace. It needs the right to look at that process.
func holder(port uint16) (name string, pid int, ok bool) {
	sockets := listeners(port)
	if len(sockets) == 0 {
		return "", 0, false
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !sockets[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return strings.TrimSpace(string(comm)), pid, true
	}
	return "", 0, false
}

// listeners returns the sockets that listen on a port, as links of
// /proc/<pid>/fd name them.
func listeners(port uint16) map[string]bool {
	out := make(map[string]bool)
	suffix := fmt.Sprintf(":%04X", port)
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			continue // a kernel without IPv6 has no second file
		}
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[1], suffix) && f[3] == listenState {
				out["socket:["+f[9]+"]"] = true
			}
		}
	}
	return out
}
