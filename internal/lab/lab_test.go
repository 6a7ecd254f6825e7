package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

func TestHostsReachEachOther(t *testing.T) {
	l := ForTest(t, Options{Prefix: "labtest-ping", Hosts: 3, IPv6: true})
	for _, from := range l.Hosts {
		for _, to := range l.Hosts {
			for _, addr := range []string{to.Addr4.String(), to.Addr6.String()} {
				if err := from.Run(t.Context(), "ping", "-c1", "-W2", addr); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestHostIsAMachineOfItsOwn(t *testing.T) {
	l := ForTest(t, Options{Prefix: "labtest-own", Hosts: 2})
	a, b := l.Hosts[0], l.Hosts[1]
	out, err := a.Output(t.Context(), "hostname")
	if err != nil || string(out) != "host-1\n" {
		t.Errorf("host name: %q, %v; want host-1", out, err)
	}
	for _, dir := range []string{"/run", "/etc/plexus", "/var/lib/plexus", "/sys/fs/bpf"} {
		if err := a.Run(t.Context(), "mkdir", dir+"/labtest"); err != nil {
			t.Error(err)
		}
		if err := b.Run(t.Context(), "test", "!", "-e", dir+"/labtest"); err != nil {
			t.Errorf("%s is shared between hosts: %v", dir, err)
		}
		if _, err := os.Stat(dir + "/labtest"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is shared with the machine: %v", dir, err)
		}
	}
	if _, err := os.Stat(a.Path("/var/lib/plexus/labtest")); err != nil {
		t.Errorf("the machine cannot see the host's file: %v", err)
	}
	if err := a.Run(t.Context(), "test", "-r", "/etc/passwd", "-a", "-c", "/dev/net/tun", "-a", "-e", "/sys/class/net/eth0"); err != nil {
		t.Error(err)
	}
}

func TestSetLinkPartitions(t *testing.T) {
	l := ForTest(t, Options{Prefix: "labtest-link", Hosts: 2})
	a, b := l.Hosts[0], l.Hosts[1]
	if err := b.SetLink(false); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context(), "ping", "-c1", "-W1", b.Addr4.String()); err == nil {
		t.Error("a host without its cable answers")
	}
	if err := b.SetLink(true); err != nil {
		t.Fatal(err)
	}
	Eventually(t, 5*time.Second, "ping after the cable is back", func() error {
		return a.Run(t.Context(), "ping", "-c1", "-W1", b.Addr4.String())
	})
}

func TestCaptureSeesEveryFrameOnce(t *testing.T) {
	l := ForTest(t, Options{Prefix: "labtest-capture", Hosts: 2})
	c, err := l.Capture()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Hosts[0].Run(t.Context(), "ping", "-c4", "-i0.01", "-p", "1abe11ed", l.Hosts[1].Addr4.String()); err != nil {
		t.Error(err)
	}
	packets, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	marked := 0
	for _, p := range packets {
		if bytes.Contains(p.Data, []byte{0x1a, 0xbe, 0x11, 0xed, 0x1a, 0xbe, 0x11, 0xed}) {
			marked++
		}
	}
	if marked != 8 {
		t.Errorf("%d frames with the pattern of 4 requests and 4 replies", marked)
	}
}

// script writes a program to start as a daemon.
func script(t *testing.T, body string) string {
	t.Helper()
	path := t.TempDir() + "/daemon"
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func logContains(d *Daemon, want string) func() error {
	return func() error {
		log, err := d.Log()
		if err == nil && !strings.Contains(string(log), want) {
			err = fmt.Errorf("log is %q; want %q in it", log, want)
		}
		return err
	}
}

func TestDaemon(t *testing.T) {
	l := ForTest(t, Options{Prefix: "labtest-daemon", Hosts: 1})
	d, err := l.Hosts[0].StartDaemon(script(t, `trap "echo asked; exit 0" TERM; echo "up $1 on $(hostname)"; while :; do sleep 0.05; done`), "once")
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, 5*time.Second, "start", logContains(d, "up once on host-1"))
	if err := d.Start(); err == nil {
		t.Error("started twice")
	}
	first := d.PID()
	if err := d.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	Eventually(t, 5*time.Second, "restart", logContains(d, "asked\nup once"))
	if d.PID() == first {
		t.Error("the process is the same after a restart")
	}
	if err := d.Kill(); err != nil {
		t.Error(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](d.Err())
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("ended with %v after a kill", d.Err())
	}
}

// leaveHelper runs a daemon that detaches a helper with an empty environment.
func leaveHelper(t *testing.T, l *Lab) {
	t.Helper()
	d, err := l.Hosts[0].StartDaemon(script(t, `setsid env -i sleep 4242 & echo helper $!; wait`))
	if err != nil {
		t.Fatal(err)
	}
	Eventually(t, 5*time.Second, "helper", logContains(d, "helper"))
	if err := d.Kill(); err != nil {
		t.Fatal(err)
	}
	if pop, members := inLab(t, l.rec); len(members) != len(pop.namespaces)+1 {
		t.Fatalf("processes %v in namespaces %v; want the holders and the helper", members, pop.namespaces)
	}
}

func inLab(t *testing.T, rec record) (population, []string) {
	t.Helper()
	pop, err := lookFor(rec.Mark, rec.Outer)
	if err != nil {
		t.Fatal(err)
	}
	members, err := pop.members()
	if err != nil {
		t.Fatal(err)
	}
	return pop, members
}

func interfaces(t *testing.T) []string {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return names
}

func TestCloseLeavesNothing(t *testing.T) {
	netnstest.Require(t)
	before := interfaces(t)
	l, err := New(Options{Prefix: "labtest-close", Hosts: 2, IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	leaveHelper(t, l)
	pop, processes := inLab(t, l.rec)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	assertGone(t, pop, processes, l.rec)
	if diff := cmp.Diff(before, interfaces(t)); diff != "" {
		t.Errorf("the machine's interfaces changed: %s", diff)
	}
	if _, err := os.Stat("/run/plexus-lab-labtest-close"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("lab directory: %v; want it gone", err)
	}
}

// assertGone checks that no process is marked, and none of the old ones in one of the
// old namespaces. The kernel gives the number of a namespace that is gone to the next,
// which may be another lab's.
func assertGone(t *testing.T, old population, processes []string, rec record) {
	t.Helper()
	members, err := old.members()
	left := slices.DeleteFunc(members, func(pid string) bool { return !slices.Contains(processes, pid) })
	if err != nil || len(left) != 0 {
		t.Errorf("left in the lab's namespaces: %v, %v", left, err)
	}
	if pop, members := inLab(t, rec); len(pop.namespaces)+len(members) != 0 {
		t.Errorf("left with the lab's mark: %v in %v", members, pop.namespaces)
	}
}

func TestNewSweepsACrashedRun(t *testing.T) {
	netnstest.Require(t)
	opts := Options{Prefix: "labtest-crash", Hosts: 1}
	crashed, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	leaveHelper(t, crashed)
	if _, err := New(opts); !errors.Is(err, ErrInUse) {
		t.Errorf("a second owner got %v; want ErrInUse", err)
	}
	if err := Remove(opts.Prefix); !errors.Is(err, ErrInUse) {
		t.Errorf("remove under a living owner: %v; want ErrInUse", err)
	}
	pop, processes := inLab(t, crashed.rec)
	if err := crashed.Detach(); err != nil { // a crash drops the lock in the same way
		t.Fatal(err)
	}
	ForTest(t, opts)
	assertGone(t, pop, processes, crashed.rec)
	for _, h := range crashed.holders {
		_ = h.cmd.Wait()
	}
}

func TestOpenUsesADetachedLab(t *testing.T) {
	netnstest.Require(t)
	built, err := New(Options{Prefix: "labtest-open", Hosts: 2, IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove("labtest-open"); err != nil {
			t.Error(err)
		}
		for _, h := range built.holders {
			_ = h.cmd.Wait()
		}
		if _, err := Open("labtest-open"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("open after remove: %v; want ErrNotExist", err)
		}
	})
	if err := built.Detach(); err != nil {
		t.Fatal(err)
	}
	l, err := Open("labtest-open")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Hosts) != 2 || l.Hosts[1].Addr6 != built.Hosts[1].Addr6 {
		t.Fatalf("opened %d hosts, the last at %v", len(l.Hosts), l.Hosts[1].Addr6)
	}
	if err := l.Hosts[1].Run(context.Background(), "ping", "-c1", "-W2", l.Hosts[0].Addr6.String()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		opts Options
		want string
	}{
		{"no prefix", Options{Hosts: 1}, "lab prefix"},
		{"a path", Options{Prefix: "../etc", Hosts: 1}, "lab prefix"},
		{"no hosts", Options{Prefix: "labtest"}, "want 1 to 200"},
		{"too many", Options{Prefix: "labtest", Hosts: 201}, "want 1 to 200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v; want %q", err, tt.want)
			}
		})
	}
}
