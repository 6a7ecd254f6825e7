package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// explain adds to err what the user can do about it, where the kernel shows what
// is wrong. It asks only once something has failed.
func explain(doing string, err error) error { return explainBy(doing, err, probe) }

func explainBy(doing string, err error, probe func() []feature) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", doing, err)
	}
	for _, f := range probe() {
		if errors.Is(f.err, ebpf.ErrNotSupported) { // no clear answer counts as present
			return fmt.Errorf("%s: this kernel, %s, has no %s: Plexus needs Linux 5.10 or later: %w", doing, kernelRelease(), f.name, err)
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// feature is what the programs need of a kernel.
type feature struct {
	name string
	err  error // ebpf.ErrNotSupported where the kernel lacks it
}

// probe asks the kernel for each feature, in the order in which kernels got them.
func probe() []feature {
	return []feature{
		{"BPF longest-prefix maps", features.HaveMapType(ebpf.LPMTrie)},
		{"BPF programs for traffic control", features.HaveProgramType(ebpf.SchedCLS)},
		{"BPF loops", features.HaveBoundedLoops()},
		{"BPF ring buffers", features.HaveMapType(ebpf.RingBuf)},
	}
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}
