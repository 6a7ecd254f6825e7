package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/test/vm/report"
)

// port is the second serial port: the first one is the kernel's console.
const port = "/dev/ttyS1"

// serve runs every job, one after the other.
func serve() error {
	out, err := openPort(port)
	if err != nil {
		return err
	}
	defer out.Close()
	r := &reporter{enc: json.NewEncoder(out)}
	if err := runAll(r); err != nil {
		return errors.Join(err, r.say(report.Line{Error: err.Error()}))
	}
	return r.say(report.Line{Done: true})
}

func runAll(r *reporter) error {
	var jobs []report.Job
	text, err := os.ReadFile(report.JobsFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &jobs); err != nil {
		return fmt.Errorf("read %s: %w", report.JobsFile, err)
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return err
	}
	if err := r.say(report.Line{Kernel: strings.TrimSpace(string(release))}); err != nil {
		return err
	}
	for _, job := range jobs {
		code := run(job, &stream{reporter: r, job: job.Name})
		if err := r.say(report.Line{Job: job.Name, Exit: &code}); err != nil {
			return err
		}
	}
	return nil
}

// run returns the job's exit code, or -1 where it has none: then its output says
// why.
func run(job report.Job, out *stream) int {
	ctx, cancel := context.WithTimeout(context.Background(), job.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, job.Argv[0], job.Argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = job.Dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second // for what a helper that outlived the job keeps open
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || cmd.ProcessState == nil {
		fmt.Fprintf(out, "run %q: %v\n", job.Argv, err)
		return -1
	}
	if ctx.Err() != nil {
		fmt.Fprintf(out, "killed after %v\n", job.Timeout)
	}
	return cmd.ProcessState.ExitCode()
}

// openPort opens a serial port that passes bytes on as they are.
func openPort(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	tty, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err == nil {
		tty.Oflag &^= unix.OPOST
		tty.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
		err = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, tty)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", path, err), f.Close())
	}
	return f, nil
}

// reporter writes lines, each of them whole.
type reporter struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (r *reporter) say(l report.Line) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enc.Encode(l)
}

// stream reports what a job prints while it prints it.
type stream struct {
	*reporter
	job string
}

func (s *stream) Write(b []byte) (int, error) {
	return len(b), s.say(report.Line{Job: s.job, Output: b})
}
