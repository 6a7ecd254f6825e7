package loader

import (
	"errors"
	"fmt"
	"os"

	"github.com/plexusmesh/plexus/datapath/probe"
)

// explain adds to err what the user can do about it, where the kernel shows what
// is wrong. It asks only once something has failed.
func explain(doing string, err error) error { return explainBy(doing, err, probe.Programs()) }

func explainBy(doing string, err error, probes []probe.Probe) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%s: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: %w", doing, err)
	}
	for _, r := range probe.Run(probes) {
		if r.Required && r.State == probe.Missing { // no clear answer counts as present
			return fmt.Errorf("%s: this kernel, %s, has no %s: %s: plexus doctor tells more: %w", doing, probe.Kernel(), r.Name, r.Remedy, err)
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
