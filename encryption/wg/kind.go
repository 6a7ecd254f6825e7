package wg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kind says who implements a WireGuard device.
type Kind string

// The kinds of devices.
const (
	Kernel    Kind = "kernel"
	Userspace Kind = "userspace" // wireguard-go on a TUN device, in the helper process
)

// DeviceOptions say how [EnsureDevice] makes a device.
type DeviceOptions struct {
	Name string
	MTU  int // bytes, at creation; datapath/device corrects it later; default 1420
	// Command starts the helper. The flags --device, --mtu and --pid-file are
	// appended; the process must hand them to [RunUserspace]. The daemon gives
	// itself: {"/proc/self/exe", "wireguard"}.
	Command []string
	PIDFile string        // written by the helper; names it to the next daemon
	LogFile string        // takes the helper's output; default PIDFile + ".log"
	Timeout time.Duration // for the helper to answer; default 10 s
	Logger  *slog.Logger  // required
}

func (o DeviceOptions) withDefaults() (DeviceOptions, error) {
	if o.Name == "" || len(o.Name) >= unix.IFNAMSIZ {
		return o, fmt.Errorf("make WireGuard device %q: use a name of 1 to %d bytes", o.Name, unix.IFNAMSIZ-1)
	}
	if len(o.Command) == 0 || o.PIDFile == "" || o.Logger == nil {
		return o, fmt.Errorf("make WireGuard device %s: no helper command, PID file or logger given", o.Name)
	}
	o.LogFile = cmp.Or(o.LogFile, o.PIDFile+".log")
	o.MTU = cmp.Or(o.MTU, 1420)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	return o, nil
}

// EnsureDevice makes sure that the device exists and answers, and says who
// implements it. A device that is there is adopted as it is, with its helper.
// It is cheap enough to be called in every pass, which restarts a helper that
// died. A helper that it starts is detached: it outlives this process.
func EnsureDevice(ctx context.Context, o DeviceOptions) (Kind, error) {
	o, err := o.withDefaults()
	if err != nil {
		return "", err
	}
	link, err := find(o.Name)
	if err != nil {
		return "", err
	}
	if link != nil {
		return adopt(link, o)
	}
	err = netlink.LinkAdd(&netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: o.Name, MTU: o.MTU}})
	switch {
	case err == nil:
		return Kernel, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return Userspace, startHelper(ctx, o)
	}
	return "", fmt.Errorf("create WireGuard device %s: %w", o.Name, err)
}

// adopt checks that the link which has our name is a WireGuard device.
func adopt(link netlink.Link, o DeviceOptions) (Kind, error) {
	switch link.Type() {
	case "wireguard":
		return Kernel, nil
	case "tuntap", "tun":
		return Userspace, answering(o.Name, o.PIDFile)
	}
	return "", fmt.Errorf("use device %s for WireGuard: it exists with type %s: remove it with ip link del %s, or choose another device name",
		o.Name, link.Type(), o.Name)
}

// answering reports why the helper behind a device that exists does not answer.
func answering(name, pidFile string) error {
	err := probe(name)
	if err == nil {
		return nil
	}
	if p := findHelper(pidFile, name); p != nil {
		return fmt.Errorf("adopt WireGuard device %s: its helper, process %d, does not answer at %s: stop it with kill -9 %d and it is started anew: %w",
			name, p.Pid, socketPath(name), p.Pid, err)
	}
	return fmt.Errorf("adopt TUN device %s: no WireGuard answers at %s: remove it with ip link del %s, choose another device name, or run in the mount namespace of its helper: %w",
		name, socketPath(name), name, err)
}

// RemoveDevice removes the device and stops its helper. It needs no memory of
// what made them: a helper is ours if the PID file at pidFile leads to a process
// whose command line names both that file and the device. What is not there is
// no error; a TUN device of someone else is.
func RemoveDevice(ctx context.Context, name, pidFile string) error {
	helper := findHelper(pidFile, name)
	if helper != nil {
		if err := stopHelper(ctx, helper, name, pidFile); err != nil {
			return err
		}
	}
	link, err := find(name)
	if err != nil || link == nil {
		return err
	}
	if link.Type() != "wireguard" && helper == nil {
		return fmt.Errorf("remove device %s: it has type %s and no helper of ours: remove it with ip link del %s if nobody needs it",
			name, link.Type(), name)
	}
	if err := netlink.LinkDel(link); err != nil && !gone(err) {
		return fmt.Errorf("remove WireGuard device %s: %w", name, err)
	}
	return nil
}

// find returns the link called name, or nil.
func find(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up device %s: %w", name, err)
	}
	return link, nil
}

// gone reports whether err says that a link does not exist.
func gone(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}
