package probe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

func answers(err error) func() error { return func() error { return err } }

func TestResultsSayWhatIsThere(t *testing.T) {
	there, gone, denied, odd := answers(nil), answers(Absent(unix.ENOSYS)), answers(Absent(unix.EPERM)), answers(errors.New("odd"))
	for _, tt := range []struct {
		name    string
		list    []Probe
		want    []string // state, and whether it is needed
		verdict Verdict
	}{
		{"nothing asked", nil, nil, Ready},
		{"all there", []Probe{{Name: "a", Required: true, Ask: there}, {Name: "b", Ask: there}}, []string{"present true", "present false"}, Ready},
		{"one that is not needed", []Probe{{Name: "a", Ask: gone}}, []string{"missing false"}, Limited},
		{"one that is", []Probe{{Name: "a", Required: true, Ask: gone}, {Name: "b", Ask: odd}}, []string{"missing true", "unknown false"}, Unusable},
		{"no right to ask", []Probe{{Name: "a", Required: true, Ask: denied}}, []string{"unknown true"}, Limited},
		{"another in its place", []Probe{{Name: "a", Ask: there}, {Name: "b", Required: true, Unless: "a", Ask: gone}}, []string{"present false", "missing false"}, Limited},
		{"which comes later", []Probe{{Name: "b", Required: true, Unless: "a", Ask: gone}, {Name: "a", Ask: there}}, []string{"missing false", "present false"}, Limited},
		{"no other in its place", []Probe{{Name: "a", Ask: odd}, {Name: "b", Required: true, Unless: "a", Ask: gone}}, []string{"unknown false", "missing true"}, Unusable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			results := Run(tt.list)
			var got []string
			for _, r := range results {
				got = append(got, fmt.Sprint(r.State, " ", r.Required))
				if (r.State == Present) != (r.Detail == "") {
					t.Errorf("%+v: a detail goes with what is not there, and with nothing else", r)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if v := Judge(results); v != tt.verdict {
				t.Errorf("verdict %s, want %s", v, tt.verdict)
			}
		})
	}
}

func TestEveryProbeIsExplained(t *testing.T) {
	names := make(map[string]bool)
	list := List(Options{BPFRoot: "/sys/fs/bpf/plexus"})
	for _, p := range list {
		if p.Name == "" || p.Lost == "" || p.Remedy == "" || p.Ask == nil || names[p.Name] {
			t.Errorf("%+v: every probe has a name of its own, and says what is lost and what to do", p)
		}
		names[p.Name] = true
	}
	for _, p := range list {
		if p.Unless != "" && !names[p.Unless] {
			t.Errorf("%s stands in for %q, which nobody looks for", p.Name, p.Unless)
		}
	}
}

// The machine of the tests runs Plexus: nothing that is needed may be said to be
// missing, and what is tried leaves nothing behind.
func TestThisMachineRunsPlexus(t *testing.T) {
	netnstest.Run(t, func() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			t.Fatal(err)
		}
		for _, r := range Run(List(Options{BPFRoot: "/sys/fs/bpf/plexus"})) {
			if r.State == Unknown || r.State == Missing && r.Required {
				t.Errorf("%s is %s: %s", r.Name, r.State, r.Detail)
			}
		}
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 {
			t.Errorf("interfaces %v, %v", links, err)
		}
		var after unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &after); err != nil || after != limit {
			t.Errorf("limit of locked memory %+v, before %+v, %v", after, limit, err)
		}
	})
}

func TestWhereNoBPFFileSystemIs(t *testing.T) {
	dir := t.TempDir()
	if err := onBPF(filepath.Join(dir, "not", "yet")); stateOf(err) != Missing {
		t.Errorf("on a disk: %v", err)
	}
	if err := exists(filepath.Join(dir, "nothing")); stateOf(err) != Missing {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A kernel that knows less says so, as this one does of what nobody knows.
func TestWhatNoKernelKnowsIsMissing(t *testing.T) {
	netnstest.Require(t)
	const nobodyKnows = 200
	for name, err := range map[string]error{
		"a type of map":        mapOf(mapAttr{kind: nobodyKnows, key: 4, value: 4, entries: 1})(),
		"a type of program":    load(nobodyKnows, pass),
		"a place to attach":    apart(func() error { return attach(unix.BPF_PROG_TYPE_SCHED_CLS, pass, nobodyKnows) })(),
		"a call of the kernel": Absent(os.ErrNotExist),
	} {
		if stateOf(err) != Missing {
			t.Errorf("%s is %v: %v", name, stateOf(err), err)
		}
	}
	if err := load(unix.BPF_PROG_TYPE_SCHED_CLS, []uint64{insn(opExit, 0, 0, 0)}); err == nil { // returns what was never set
		t.Error("a program that the verifier must refuse was loaded: nothing is tried")
	}
}

// Who may not ask is told that nobody can tell, and never that something is missing.
func TestWithoutRightsNothingIsMissing(t *testing.T) {
	for _, p := range Programs() {
		if err := Absent(fmt.Errorf("ask for %s: %w", p.Name, unix.EPERM)); stateOf(err) != Unknown {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}
