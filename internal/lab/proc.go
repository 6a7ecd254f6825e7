package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// What marks a process as started by a lab. A holder's network namespace is the
// lab's, and so is everything in it; any other marked process is only itself.
const (
	holderEnv = "PLEXUS_LAB_HOLDER"
	memberEnv = "PLEXUS_LAB_MEMBER"
)

// killTimeout bounds how long killed processes may take to go.
const killTimeout = 15 * time.Second

// netNS names the network namespace of a process, like net:[4026531840].
func netNS(pid string) string {
	ns, err := os.Readlink(filepath.Join("/proc", pid, "ns/net"))
	if err != nil {
		return "" // gone, or a zombie, which has left its namespaces
	}
	return ns
}

// hasEnv reports whether the process was started with key=value. Zombies have
// no environment.
func hasEnv(pid, key, value string) bool {
	env, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
	if err != nil {
		return false
	}
	want := []byte(key + "=" + value)
	for entry := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(entry, want) {
			return true
		}
	}
	return false
}

// population is what one look at /proc tells about a lab.
type population struct {
	mark, outer string
	namespaces  map[string]bool
}

// lookFor finds the namespaces of the lab with that mark; outer is the
// namespace the lab was built from, which is never the lab's.
func lookFor(mark, outer string) (population, error) {
	p := population{mark: mark, outer: outer, namespaces: map[string]bool{}}
	pids, err := processes()
	for _, pid := range pids {
		if hasEnv(pid, holderEnv, mark) {
			if ns := netNS(pid); ns != "" && ns != outer {
				p.namespaces[ns] = true
			}
		}
	}
	return p, err
}

func (p population) owns(pid string) bool {
	return hasEnv(pid, holderEnv, p.mark) || hasEnv(pid, memberEnv, p.mark) || p.namespaces[netNS(pid)]
}

// members lists the lab's processes, this one excepted.
func (p population) members() ([]string, error) {
	pids, err := processes()
	var out []string
	for _, pid := range pids {
		if pid != strconv.Itoa(os.Getpid()) && p.owns(pid) {
			out = append(out, pid)
		}
	}
	return out, err
}

func processes() ([]string, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []string
	for _, d := range dirs {
		if _, err := strconv.Atoi(d.Name()); err == nil {
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// killAll kills the lab's processes until none is left.
func killAll(mark, outer string) error {
	lab, err := lookFor(mark, outer)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	return poll(ctx, func() error {
		left, err := lab.members()
		if err != nil || len(left) == 0 {
			return err
		}
		errs := []error{fmt.Errorf("processes %v are still there", left)}
		for _, pid := range left {
			errs = append(errs, lab.kill(pid))
		}
		return errors.Join(errs...)
	})
}

// kill pins the process first, so that the one checked is the one killed.
func (p population) kill(pid string) error {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	proc, err := os.FindProcess(n)
	if err != nil {
		return fmt.Errorf("find process %d: %w", n, err)
	}
	defer proc.Release()
	if !p.owns(pid) {
		return nil
	}
	if err := proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process %d: %w", n, err)
	}
	return nil
}

// poll calls ok until it returns nil, and returns its last error once ctx ends.
func poll(ctx context.Context, ok func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
