package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// Daemon is a long-running program on a host. Its output goes to a file that
// lives as long as the lab and that every start appends to.
type Daemon struct {
	host *Host
	argv []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error         // of cmd; read only after done
}

// StartDaemon starts binary, a path on this machine, on the host.
func (h *Host) StartDaemon(binary string, args ...string) (*Daemon, error) {
	if h.lab.room == nil {
		return nil, fmt.Errorf("start %s on %s: only the process that built a lab starts daemons in it", binary, h.Name)
	}
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", binary, err)
	}
	d := &Daemon{
		host: h,
		argv: append([]string{path}, args...),
		log:  filepath.Join(h.lab.room.dir, h.Name+"-"+filepath.Base(path)+".log"),
	}
	if err := d.Start(); err != nil {
		return nil, err
	}
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	h.lab.daemons = append(h.lab.daemons, d)
	return d, nil
}

// Start starts the daemon again after it has ended.
func (d *Daemon) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done != nil && !closed(d.done) {
		return fmt.Errorf("start %s on %s: it runs already", d.argv[0], d.host.Name)
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open daemon log: %w", err)
	}
	defer log.Close()
	cmd := d.host.Command(context.Background(), d.argv...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is the test's to handle
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s on %s: %w", d.argv[0], d.host.Name, err)
	}
	done := make(chan struct{})
	d.cmd, d.done = cmd, done
	go func() {
		d.err = cmd.Wait()
		close(done)
	}()
	return nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Done is closed when the latest start has ended.
func (d *Daemon) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done
}

// Err tells how the latest start ended: nil for exit status 0, and also while
// it runs.
func (d *Daemon) Err() error {
	done := d.Done()
	if !closed(done) {
		return nil
	}
	return d.err
}

// PID is the process id of the latest start.
func (d *Daemon) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cmd.Process.Pid
}

// Signal sends sig. It is an error once the daemon has ended.
func (d *Daemon) Signal(sig os.Signal) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %v to %s on %s: %w", sig, d.argv[0], d.host.Name, err)
	}
	return nil
}

// Kill ends the daemon as a crash would, and waits until it is gone. What it
// detached stays.
func (d *Daemon) Kill() error {
	if err := d.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-d.Done()
	return nil
}

// Stop asks the daemon to end and waits for it. It returns the daemon's own
// exit error, or that of ctx.
func (d *Daemon) Stop(ctx context.Context) error {
	if err := d.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-d.Done():
	case <-ctx.Done():
		return fmt.Errorf("stop %s on %s: %w", d.argv[0], d.host.Name, context.Cause(ctx))
	}
	if err := d.Err(); err != nil {
		return fmt.Errorf("stop %s on %s: %w", d.argv[0], d.host.Name, err)
	}
	return nil
}

// Restart stops the daemon and starts it with the same arguments.
func (d *Daemon) Restart(ctx context.Context) error {
	return errors.Join(d.Stop(ctx), d.Start())
}

// Log returns what all starts have printed so far.
func (d *Daemon) Log() ([]byte, error) {
	data, err := os.ReadFile(d.log)
	if err != nil {
		return nil, fmt.Errorf("read daemon log: %w", err)
	}
	return data, nil
}
