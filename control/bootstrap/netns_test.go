package bootstrap

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

// childEnv names the test that this process runs in a network namespace of its own.
const childEnv = "PLEXUS_BOOTSTRAP_CHILD"

// Addresses of the namespace: those of the server, then those of another host.
var (
	server4, server6 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	host4, host6     = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
)

// inNamespace reports whether the test is to go on here. In the first process it
// runs the test again, as a process of its own whose every thread is in a fresh
// network namespace: etcd's goroutines would leave a namespace of one thread.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		if err := setUp(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	netnstest.Require(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

// setUp gives the loopback device the addresses of the test.
func setUp() error {
	for i, a := range []netip.Addr{server4, host4} {
		if err := configure(unix.AF_INET, func(fd int) error { return add4(fd, fmt.Sprintf("lo:%d", i), a) }); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	for _, a := range []netip.Addr{server6, host6} {
		if err := configure(unix.AF_INET6, func(fd int) error { return add6(fd, a) }); err != nil {
			return fmt.Errorf("add %s: %w", a, err)
		}
	}
	return nil
}

func configure(family int, f func(fd int) error) error {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

func add4(fd int, name string, a netip.Addr) error {
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := req.SetInet4Addr(a.AsSlice()); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFADDR, req)
}

func add6(fd int, a netip.Addr) error {
	req := struct { // struct in6_ifreq, linux/ipv6.h
		addr   [16]byte
		prefix uint32
		index  int32
	}{a.As16(), 128, 1}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
