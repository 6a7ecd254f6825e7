package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// files are the probes of file systems and what stands in them.
func files(o Options) []Probe {
	return []Probe{
		{
			Name: "a BPF file system at " + o.BPFRoot, Required: true, Ask: func() error { return onBPF(o.BPFRoot) },
			Lost: "programs and maps cannot outlive plexusd, which does not start", Remedy: "mount -t bpf bpf /sys/fs/bpf (systemd does so at boot)",
		},
		{
			Name: "types of the kernel (BTF)", Ask: func() error { return exists("/sys/kernel/btf/vmlinux") },
			Lost: "nothing that Plexus does today: its programs need no types of the kernel, while tools to trace them do", Remedy: "run a kernel built with CONFIG_DEBUG_INFO_BTF",
		},
	}
}

// others are what fits nowhere else.
func others() []Probe {
	return append(diagnosis(),
		Probe{
			Name: "IPv6", Ask: func() error { return exists("/proc/sys/net/ipv6") },
			Lost: "this host has no IPv6, and its mesh address of it cannot be set, which plexus status tells; IPv4 goes on", Remedy: "boot without ipv6.disable=1 (CONFIG_IPV6)",
		},
		Probe{
			Name: "room for BPF maps in locked memory", Required: true, Ask: askMemory,
			Lost: "maps cannot be made: plexusd does not start", Remedy: "give plexusd CAP_SYS_RESOURCE, or LimitMEMLOCK=infinity in its unit",
		})
}

func exists(path string) error {
	_, err := os.Stat(path)
	return Absent(err)
}

// onBPF reports whether path, which need not exist, is on a BPF file system.
func onBPF(path string) error {
	var fs unix.Statfs_t
	for dir := path; ; dir = filepath.Dir(dir) {
		err := unix.Statfs(dir, &fs)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.ENOENT) || dir == filepath.Dir(dir) {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%w: %s is on another file system", errMissing, path)
	}
	return nil
}
