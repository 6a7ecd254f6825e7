package wg_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"golang.org/x/sys/unix"
)

// isolate runs fn in fresh namespaces with options for a device there, which is
// removed afterwards.
func isolate(t *testing.T, fn func(o wg.DeviceOptions)) {
	t.Helper()
	o := deviceOptions(device, t.TempDir())
	netnstest.Run(t, func() {
		defer func() {
			if err := wg.RemoveDevice(t.Context(), o.Name, o.PIDFile); err != nil {
				t.Log("clean up:", err) // some tests put a device there that is not ours
			}
		}()
		fn(o)
	})
}

// userspace skips nothing: it makes the device and says whether it has a helper.
func userspace(t *testing.T, o wg.DeviceOptions) bool {
	t.Helper()
	kind, err := wg.EnsureDevice(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return kind == wg.Userspace
}

func TestForeignDeviceIsLeftAlone(t *testing.T) {
	for _, tt := range []struct{ name, make, want string }{
		{"TUN device", "ip tuntap add dev pxt0 mode tun", "no WireGuard answers at /var/run/wireguard/pxt0.sock"},
		{"bridge", "ip link add pxt0 type bridge", "it exists with type bridge"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolate(t, func(o wg.DeviceOptions) {
				must(t, strings.Fields(tt.make)...)
				if _, err := wg.EnsureDevice(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("ensure: %v; want %q in it", err, tt.want)
				}
				if err := wg.RemoveDevice(t.Context(), o.Name, o.PIDFile); err == nil || !strings.Contains(err.Error(), "no helper of ours") {
					t.Errorf("remove: %v; want a refusal", err)
				}
				must(t, "ip", "link", "show", device)
			})
		})
	}
}

// TestPIDFileAloneProvesNothing points it at a process that is no helper.
func TestPIDFileAloneProvesNothing(t *testing.T) {
	isolate(t, func(o wg.DeviceOptions) {
		bystander := exec.Command("sleep", "60")
		if err := bystander.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
		if err := os.WriteFile(o.PIDFile, []byte(strconv.Itoa(bystander.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := wg.RemoveDevice(t.Context(), o.Name, o.PIDFile); err != nil {
			t.Error(err)
		}
		if err := bystander.Process.Signal(unix.Signal(0)); err != nil {
			t.Errorf("the bystander: %v; want it alive", err)
		}
	})
}

// TestHelperThatFails is about kernels without WireGuard only: where there is
// one, no command is started, and the device simply appears.
func TestHelperThatFails(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         []string
	}{
		{"ends", "echo no luck today >&2; exit 3", []string{"it ended: exit status 3", "its log ends: no luck today"}},
		{"never answers", "exec sleep 60", []string{"no answer at /var/run/wireguard/pxt0.sock within 300ms"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			isolate(t, func(o wg.DeviceOptions) {
				o.Command, o.Timeout = []string{"/bin/sh", "-c", tt.script}, 300*time.Millisecond
				kind, err := wg.EnsureDevice(t.Context(), o)
				if kind == wg.Kernel {
					return
				}
				for _, want := range tt.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v; want %q in it", err, want)
					}
				}
			})
		})
	}
}

func TestMissingTUNSaysWhatToDo(t *testing.T) {
	isolate(t, func(o wg.DeviceOptions) {
		if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if kind, err := wg.EnsureDevice(t.Context(), o); kind != wg.Kernel && (err == nil || !strings.Contains(err.Error(), "modprobe tun")) {
			t.Errorf("error %v; want a remedy", err)
		}
	})
}

// TestHungHelper stops the helper, so that it holds the device but says nothing.
func TestHungHelper(t *testing.T) {
	isolate(t, func(o wg.DeviceOptions) {
		if !userspace(t, o) {
			return
		}
		raw, err := os.ReadFile(o.PIDFile)
		if err != nil {
			t.Fatal(err)
		}
		pid := strings.TrimSpace(string(raw))
		must(t, "kill", "-STOP", pid)
		if _, err := wg.EnsureDevice(t.Context(), o); err == nil || !strings.Contains(err.Error(), "kill -9 "+pid) {
			t.Errorf("error %v; want its PID and a remedy", err)
		}
		if err := wg.RemoveDevice(t.Context(), o.Name, o.PIDFile); err != nil {
			t.Errorf("remove while it hangs: %v", err)
		}
		if !userspace(t, o) {
			t.Error("no helper after the hung one was removed")
		}
	})
}

func TestDeletedDeviceEndsHelper(t *testing.T) {
	isolate(t, func(o wg.DeviceOptions) {
		if !userspace(t, o) {
			return
		}
		must(t, "ip", "link", "del", device)
		eventually(t, "the helper to remove its PID file", func() bool {
			_, err := os.Stat(o.PIDFile)
			return os.IsNotExist(err)
		})
		if !userspace(t, o) {
			t.Error("no helper after the device was deleted")
		}
	})
}

func TestPortInUse(t *testing.T) {
	isolate(t, func(o wg.DeviceOptions) {
		userspace(t, o)
		must(t, "ip", "link", "set", device, "up")
		taken, err := net.ListenPacket("udp", ":51871")
		if err != nil {
			t.Fatal(err)
		}
		d, err := wg.New(wg.Options{Name: device})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		c := config(encryption.NewPrivateKey())
		for range 2 { // it stays an error until the port is free
			if err := d.Ensure(t.Context(), c); err == nil || !strings.Contains(err.Error(), "another program has UDP port 51871") {
				t.Errorf("error %v; want the port named", err)
			}
		}
		taken.Close()
		if err := d.Ensure(t.Context(), c); err != nil {
			t.Errorf("once the port is free: %v", err)
		}
	})
}

// TestSettingsReadBack checks that a second pass over a real device has nothing
// to write: it is done by a driver which is not allowed to.
func TestSettingsReadBack(t *testing.T) {
	isolate(t, func(o wg.DeviceOptions) {
		userspace(t, o)
		must(t, "ip", "link", "set", device, "up")
		key := encryption.NewPrivateKey()
		c := config(key, peer('A', "192.0.2.1:1", "10.0.0.1/32,fd00::1/128"), peer('B', "[2001:db8::2]:2", ""))
		real := newCounter(t)
		d, err := wg.New(wg.Options{Name: device, Client: real})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		for i, want := range []int{2, 2} { // settings and peers, then nothing
			if err := pass(t, d, c, true); err != nil {
				t.Fatal(err)
			}
			if real.writes != want {
				t.Errorf("pass %d: %d writes so far, want %d", i, real.writes, want)
			}
		}
	})
}
