package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/plexusmesh/plexus/test/vm/report"
)

// machineTimeout bounds a machine from power on to its end.
const machineTimeout = 25 * time.Minute

// machine is one boot of an image.
type machine struct {
	image
	initrd  string // rootfs and payload
	console string // file for what the kernel says
}

// newMachine joins the image and the payload.
func newMachine(img image, p *payload, dir string) (*machine, error) {
	m := &machine{image: img, initrd: filepath.Join(p.dir, img.kernel+".cpio"), console: filepath.Join(dir, img.kernel+".console.log")}
	f, err := os.Create(m.initrd)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	rootfs, err := os.Open(img.rootfs)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer rootfs.Close()
	_, err = io.Copy(buf, rootfs)
	return m, errors.Join(err, p.write(newCPIO(buf)), buf.Flush(), f.Close())
}

// command is the emulator. The kernel's console goes to a file and the report to
// standard output. An oops is a panic, and a panic ends the machine.
func (m *machine) command(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048",
		"-kernel", m.vmlinuz, "-initrd", m.initrd,
		"-append", "console=ttyS0 panic=-1 oops=panic rdinit=/init random.trust_cpu=on tsc=unstable mitigations=off rcupdate.rcu_expedited=1",
		"-serial", "file:"+m.console, "-serial", "stdio")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // a Ctrl-C is ours to handle
	return cmd
}

// run boots the machine and passes its report on. It returns once the emulator
// has ended, with an error unless the guest has said that it is done.
func (m *machine) run(ctx context.Context, each func(report.Line) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, machineTimeout, fmt.Errorf("no end after %v", machineTimeout))
	defer cancel()
	runtime.LockOSThread() // the emulator dies with the thread that started it
	defer runtime.UnlockOSThread()
	cmd := m.command(ctx)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the emulator: %w", err)
	}
	err = follow(out, each)
	if err != nil {
		cancel()
	}
	if werr := cmd.Wait(); werr != nil && err == nil {
		err = fmt.Errorf("run the emulator: %w: %s", werr, said.String())
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// follow reads a report to its end.
func follow(in io.Reader, each func(report.Line) error) error {
	dec := json.NewDecoder(in)
	for {
		var l report.Line
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the guest ended without a word: it panicked, or never came up")
		}
		if err != nil {
			return fmt.Errorf("read the guest's report: %w", err)
		}
		if l.Error != "" {
			return errors.New("the guest gave up: " + l.Error)
		}
		if l.Done {
			return nil
		}
		if err := each(l); err != nil {
			return err
		}
	}
}
