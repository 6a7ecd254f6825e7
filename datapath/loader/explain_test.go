package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath/probe"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

func TestExplainSaysWhatToDo(t *testing.T) {
	cause := errors.New("invalid argument")
	present := func() error { return nil }
	unclear := func() error { return errors.New("out of memory") }
	old := []probe.Probe{
		{Name: "loops", Required: true, Ask: present},
		{Name: "a compiler", Ask: func() error { return probe.Absent(unix.ENOSYS) }}, // not needed, and so not the reason
		{Name: "rings", Required: true, Remedy: "run Linux 5.10 or later", Ask: func() error { return fmt.Errorf("ask: %w", probe.Absent(unix.EINVAL)) }},
		{Name: "more", Required: true, Ask: func() error { return probe.Absent(unix.EINVAL) }},
	}
	for _, tt := range []struct {
		name   string
		err    error
		probes []probe.Probe
		want   []string
	}{
		{"an old kernel", cause, old, []string{"load programs: this kernel, ", " has no rings", "Linux 5.10 or later", "plexus doctor", "invalid argument"}},
		{"no clear answer", cause, []probe.Probe{{Name: "rings", Required: true, Ask: unclear}}, []string{"load programs: invalid argument"}},
		{"no privilege", os.ErrPermission, old, []string{"run as root"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := explainBy("load programs", tt.err, tt.probes)
			if !errors.Is(err, tt.err) {
				t.Errorf("%v does not keep its cause", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestThisKernelLacksNothing(t *testing.T) {
	netnstest.Require(t)
	if err := explain("load programs", unix.EINVAL); strings.Contains(err.Error(), "has no") {
		t.Error(err)
	}
}
