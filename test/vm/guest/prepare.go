package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// mounts are what a Debian host has by the time that services start.
var mounts = []struct{ fs, dir, options string }{
	{"proc", "/proc", ""},
	{"sysfs", "/sys", ""},
	{"devtmpfs", "/dev", ""},
	{"tmpfs", "/run", "mode=0755"},
	{"tmpfs", "/tmp", "mode=1777"},
	{"cgroup2", "/sys/fs/cgroup", ""},
	{"bpf", "/sys/fs/bpf", ""},
	{"debugfs", "/sys/kernel/debug", ""},
}

// directories are more of what a Debian host has.
var directories = []string{"/etc", "/root", "/var/lib", "/var/log"}

// links are what udev would make in /dev.
var links = map[string]string{"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2"}

// prepare brings the machine to where tests can run: file systems, the search
// path, and /dev/net/tun, which is there once its module is.
func prepare() error {
	for _, dir := range directories {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, m := range mounts {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, m.options); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s at %s: %w", m.fs, m.dir, err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for name, value := range map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME": "/root", "PLEXUS_TEST_REQUIRE": "kernel",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{{"modprobe", "tun"}, {"ip", "link", "set", "lo", "up"}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("run %q: %w: %s", argv, err, out)
		}
	}
	return nil
}
