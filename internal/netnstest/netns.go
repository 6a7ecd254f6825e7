// Package netnstest gives tests network namespaces of their own and makes sure
// that a missing privilege cannot hide as a skip where CI asked for the kernel.
package netnstest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// RequireEnv lists, with commas, what tests must not skip for want of.
const RequireEnv = "PLEXUS_TEST_REQUIRE"

// Require skips t unless it runs as root on Linux with a BPF file system to
// mount. With PLEXUS_TEST_REQUIRE=kernel it fails instead.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if slices.Contains(strings.Split(os.Getenv(RequireEnv), ","), "kernel") {
		t.Fatalf("%s=kernel is set, but this test does not run as root", RequireEnv)
	}
	t.Skip("needs root: run make test-kernel")
}

// Run calls fn on a thread in fresh network and mount namespaces, with loopback
// up, a BPF file system at /sys/fs/bpf and an empty /run/wireguard. The thread,
// and with it both namespaces, is thrown away afterwards. Goroutines that fn
// starts are not in the namespaces.
func Run(t testing.TB, fn func()) {
	t.Helper()
	Require(t)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		err := enter()
		if err == nil {
			defer func() { done <- nil }() // also when fn calls t.FailNow
			fn()
			return
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

func enter() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll("/run/wireguard", 0o700); err != nil {
		return err
	}
	for _, m := range []struct{ fs, dir string }{{"sysfs", "/sys"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/run/wireguard"}} {
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.fs, m.dir, err)
		}
	}
	return loopbackUp()
}

// loopbackUp does without netlink, so that packages below datapath can use this one.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}
