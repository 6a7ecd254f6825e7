package loader

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

func TestExplainSaysWhatToDo(t *testing.T) {
	cause := errors.New("invalid argument")
	old := func() []feature {
		return []feature{{"loops", nil}, {"rings", fmt.Errorf("probe: %w", ebpf.ErrNotSupported)}, {"more", ebpf.ErrNotSupported}}
	}
	unclear := func() []feature { return []feature{{"rings", errors.New("out of memory")}} }
	for _, tt := range []struct {
		name  string
		err   error
		probe func() []feature
		want  []string
	}{
		{"an old kernel", cause, old, []string{"load programs: this kernel, ", " has no rings", "Linux 5.10 or later", "invalid argument"}},
		{"no clear answer", cause, unclear, []string{"load programs: invalid argument"}},
		{"no privilege", os.ErrPermission, old, []string{"run as root"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := explainBy("load programs", tt.err, tt.probe)
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
	for _, f := range probe() {
		if f.err != nil {
			t.Errorf("%s: %v", f.name, f.err)
		}
	}
}
