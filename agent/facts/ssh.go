package facts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sshNames are the programs (/proc/<pid>/comm) that count as SSH servers.
var sshNames = []string{"sshd", "dropbear", "tinysshd"}

// sshPort counts as an SSH server's whoever listens on it: with socket
// activation that is the service manager (RFC 4253, section 4.1).
const sshPort = 22

// root is the uid that a socket of root's has in procfs.
const root = "0"

// SSHPorts returns the TCP ports on which an SSH server of root's listens,
// sorted. Other users choose the names of their programs freely, and could open
// any port by calling one sshd. proc is where procfs is mounted.
func SSHPorts(proc string) ([]uint16, error) {
	listening := make(map[string]uint16) // by socket inode
	for _, file := range []string{"tcp", "tcp6"} {
		all, err := readSockets(proc, file)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.state == tcpListen && s.uid == root {
				listening[s.inode] = s.local.Port()
			}
		}
	}
	return sshPorts(proc, listening)
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
