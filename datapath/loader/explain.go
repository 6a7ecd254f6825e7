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
func explain(doing string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", doing, err)
	}
	if missing := missingFeature(); missing != "" {
		return fmt.Errorf("%s: this kernel, %s, has no %s: Plexus needs Linux 5.10 or later: %w", doing, kernelRelease(), missing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// missingFeature names the first feature that the programs need and this kernel
// lacks. A probe that gives no clear answer counts as present.
func missingFeature() string {
	for _, f := range []struct {
		name string
		err  error
	}{
		{"BPF longest-prefix maps", features.HaveMapType(ebpf.LPMTrie)},
		{"BPF ring buffers", features.HaveMapType(ebpf.RingBuf)},
		{"BPF programs for traffic control", features.HaveProgramType(ebpf.SchedCLS)},
		{"BPF loops", features.HaveBoundedLoops()},
	} {
		if errors.Is(f.err, ebpf.ErrNotSupported) {
			return f.name
		}
	}
	return ""
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "of unknown version"
	}
	return unix.ByteSliceToString(u.Release[:])
}
