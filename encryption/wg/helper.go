package wg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tunNode = "/dev/net/tun"
	// poll is how often the helper's socket, or its end, is looked for.
	poll = 20 * time.Millisecond
	// probeTimeout bounds one question to a helper, which may have been stopped.
	probeTimeout = 2 * time.Second
	// logTail is how much of the helper's log an error repeats, in bytes.
	logTail = 1024
)

// Flags of the helper's command line.
const (
	flagDevice  = "--device"
	flagMTU     = "--mtu"
	flagPIDFile = "--pid-file"
)

// socketPath is where wireguard-go listens and wgctrl looks. It is a path, so it
// is shared by everything in one mount namespace.
func socketPath(name string) string { return "/var/run/wireguard/" + name + ".sock" }

// startHelper starts the helper and waits until it answers. On error nothing
// that it started is left.
func startHelper(ctx context.Context, o DeviceOptions) error {
	if err := checkTUN(o.Name); err != nil {
		return err
	}
	if probe(o.Name) == nil {
		return fmt.Errorf("start WireGuard for device %s: %s is in use by a device of another network namespace: choose another device name, or a mount namespace of its own",
			o.Name, socketPath(o.Name))
	}
	cmd, ended, err := spawn(o)
	if err != nil {
		return fmt.Errorf("start WireGuard helper of device %s: %w", o.Name, err)
	}
	if err := waitForHelper(ctx, o, ended); err != nil {
		_ = cmd.Process.Kill() // fails only if it has ended
		return fmt.Errorf("start WireGuard helper of device %s: %w%s", o.Name, err, tail(o.LogFile))
	}
	o.Logger.Info("started WireGuard helper", "device", o.Name, "pid", cmd.Process.Pid)
	return nil
}

// checkTUN reports what to do where TUN devices cannot be made.
func checkTUN(name string) error {
	f, err := os.OpenFile(tunNode, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("start WireGuard for device %s: the kernel has no WireGuard, and wireguard-go needs TUN: load a kernel module with modprobe wireguard or modprobe tun, and give a container %s: %w",
			name, tunNode, err)
	}
	return f.Close()
}

// spawn starts the helper in a session of its own, so that no signal to the
// daemon's process group reaches it, with nothing of the daemon but the log
// file. The channel receives how it ended, if that happens while this process
// lives.
func spawn(o DeviceOptions) (*exec.Cmd, <-chan error, error) {
	log, err := os.OpenFile(o.LogFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	if err := keepDescriptors(); err != nil {
		return nil, nil, err
	}
	args := append(slices.Clone(o.Command[1:]), flagDevice, o.Name, flagMTU, strconv.Itoa(o.MTU), flagPIDFile, o.PIDFile)
	cmd := exec.Command(o.Command[0], args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")} // no NOTIFY_SOCKET, no LISTEN_FDS
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // reaps it for as long as this process lives
	return cmd, ended, nil
}

// keepDescriptors keeps whatever this process has open from a program that it
// executes. Go opens everything that way; what was passed in, by systemd say,
// is not. (close_range can do it from Linux 5.11, one release after our floor.)
func keepDescriptors() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// waitForHelper returns once the helper answers.
func waitForHelper(ctx context.Context, o DeviceOptions, ended <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("no answer at %s within %s", socketPath(o.Name), o.Timeout))
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			return fmt.Errorf("it ended: %w", endOf(err))
		case <-tick.C:
			if probe(o.Name) == nil && findHelper(o.PIDFile, o.Name) != nil {
				return nil
			}
		}
	}
}

// endOf names the end of a process that ended without an error.
func endOf(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// tail returns the end of the helper's log, to stand in an error.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	raw = bytes.TrimSpace(raw)
	if err != nil || len(raw) == 0 {
		return ""
	}
	return "; its log ends: " + string(raw[max(0, len(raw)-logTail):])
}

// probe asks the device for its state, as wgctrl would, but with a deadline, and
// throws the answer away: it holds the private key.
func probe(name string) error {
	conn, err := net.DialTimeout("unix", socketPath(name), probeTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("get=1\n\n")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// findHelper returns the process that the PID file names if it is the helper of
// that device, otherwise nil. The returned handle stays with that process even
// if its number is used again.
func findHelper(pidFile, name string) *os.Process {
	raw, err := os.ReadFile(pidFile)
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 1 {
		return nil
	}
	p, err := os.FindProcess(pid) // takes a handle first, so that the check is about it
	if err != nil || !isHelper(pid, name, pidFile) {
		return nil
	}
	return p
}

// isHelper reports whether the command line of pid is that of our helper. A
// process that has ended and waits to be reaped has none.
func isHelper(pid int, name, pidFile string) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
	return hasFlag(args, flagDevice, name) && hasFlag(args, flagPIDFile, pidFile)
}

func hasFlag(args []string, flag, value string) bool {
	i := slices.Index(args, flag)
	return i >= 0 && i+1 < len(args) && args[i+1] == value
}

// stopHelper asks p to end, and ends it if it does not within a few seconds.
func stopHelper(ctx context.Context, p *os.Process, name, pidFile string) error {
	defer p.Release()
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop WireGuard helper %d of device %s: %w", p.Pid, name, err)
		}
		if waitGone(ctx, p.Pid, name, pidFile) {
			return removeLeftovers(name, pidFile)
		}
	}
	return fmt.Errorf("stop WireGuard helper %d of device %s: it does not end", p.Pid, name)
}

func waitGone(ctx context.Context, pid int, name, pidFile string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for isHelper(pid, name, pidFile) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// removeLeftovers removes what a helper leaves that was killed.
func removeLeftovers(name, pidFile string) error {
	for _, path := range []string{pidFile, socketPath(name)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("clean up after WireGuard helper: %w", err)
		}
	}
	return nil
}
