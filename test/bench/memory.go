package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	memoryGoal = 60 << 20 // bytes
	idleTime   = 15 * time.Second
)

// memory reads what is resident once the mesh has been left alone for a while.
func memory(ctx context.Context, m *mesh) ([]result, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(idleTime): // the measurement is of an idle host
	}
	agent, err := resident(m.daemons[1].PID())
	if err != nil {
		return nil, err
	}
	server, err := resident(m.daemons[0].PID())
	if err != nil {
		return nil, err
	}
	out := []result{
		{"agent memory, idle, 3 hosts", "< 60 MiB", mib(agent), when(agent < memoryGoal)},
		{"  server with embedded etcd", "", mib(server), noGoal},
	}
	pid, err := os.ReadFile(m.lab.Hosts[1].Path("/run/plexus/wireguard-plexus0.pid"))
	if err != nil {
		return out, nil // the kernel's WireGuard needs no process
	}
	n, err := strconv.Atoi(strings.Fields(string(pid))[0])
	if err != nil {
		return nil, fmt.Errorf("read process id of WireGuard helper: %w", err)
	}
	helper, err := resident(n)
	return append(out, result{"  WireGuard helper, after the throughput runs", "", mib(helper), noGoal}), err
}

func mib(bytes int) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// resident is VmRSS of proc_pid_status(5), in bytes.
func resident(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.Atoi(f[1])
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: it has ended", pid)
}
