package facts

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sshNames are the programs (/proc/<pid>/comm) that count as SSH servers.
var sshNames = []string{"sshd", "dropbear", "tinysshd"}

// sshPort counts as an SSH server's whoever listens on it: with socket
// activation that is the service manager (RFC 4253, section 4.1).
const sshPort = 22

// SSHPorts returns the TCP ports on which an SSH server of root's listens,
// sorted. Other users choose the names of their programs freely, and could open
// any port by calling one sshd. proc is where procfs is mounted.
func SSHPorts(proc string) ([]uint16, error) {
	listening := make(map[string]uint16) // by socket inode
	for _, file := range []string{"self/net/tcp", "self/net/tcp6"} {
		f, err := os.Open(filepath.Join(proc, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6 in this kernel
		}
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		err = parseListening(f, listening)
		_ = f.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("list listening sockets in %s: %w", f.Name(), err)
		}
	}
	return sshPorts(proc, listening)
}

// tcpListen is TCP_LISTEN of include/net/tcp_states.h, as procfs prints it.
const tcpListen = "0A"

// root is the uid that a socket of root's has there.
const root = "0"

// parseListening reads /proc/net/tcp (Documentation/networking/proc_net_tcp.rst)
// into ports by inode. Sockets that root has not made are left out.
func parseListening(r io.Reader, listening map[string]uint16) error {
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != tcpListen || fields[7] != root {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		port, err := strconv.ParseUint(hex, 16, 16)
		if err != nil {
			return fmt.Errorf("decode local address %q: %w", fields[1], err)
		}
		listening[fields[9]] = uint16(port)
	}
	return lines.Err()
}

func sshPorts(proc string, listening map[string]uint16) ([]uint16, error) {
	var ports []uint16
	for _, port := range listening {
		if port == sshPort {
			ports = append(ports, port)
		}
	}
	pids, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for _, dir := range pids {
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || !slices.Contains(sshNames, strings.TrimSpace(string(comm))) {
			continue // gone, or something else
		}
		ports = append(ports, portsOf(dir, listening)...)
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// portsOf returns the listening ports among a process's file descriptors.
func portsOf(dir string, listening map[string]uint16) []uint16 {
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil // it has ended meanwhile
	}
	var ports []uint16
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		if err != nil {
			continue
		}
		inode, isSocket := strings.CutPrefix(target, "socket:[")
		if port, ok := listening[strings.TrimSuffix(inode, "]")]; isSocket && ok {
			ports = append(ports, port)
		}
	}
	return ports
}
