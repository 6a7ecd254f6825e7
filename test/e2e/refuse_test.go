package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/internal/lab"
	"github.com/plexusmesh/plexus/observe"
)

func (m *trio) testRefusals(t *testing.T) {
	before := stored(t, m.server.Host)
	for _, tt := range []struct {
		name, policy string
		words        []string
	}{
		{"selects nobody", clusterwide("idle", "nobody", "  ingress: [{}]"), []string{"policy.yaml:", "selects no host", "app=nobody", "--allow-empty"}},
		{"malformed", "apiVersion: cilium.io/v2\nkind: [\n", []string{"policy.yaml:2", "YAML"}},
		{"unknown field", clusterwide("typo", "db", "  ingres: [{}]"), []string{"policy.yaml:6", "ingres"}},
		{"not enforced yet", clusterwide("l7", "db", "  ingress:\n  - toPorts:\n    - ports: [{port: \"80\", protocol: TCP}]\n      rules: {http: [{}]}"), []string{"policy.yaml:9", "rules"}},
		{"more than a host can hold", clusterwide("wide", "db", tooMany()), []string{"host-3", "would not fit", " verdicts", "65536"}},
		{"one of two is bad", webToDB + "---\n" + clusterwide("bad", "db", "  ingress: [{fromCIDR: [192.0.2.0/99]}]"), []string{"policy.yaml:", "192.0.2.0/99"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.server.refused(t, exitError, tt.words, "policy", "apply", "-f", m.server.write(t, "policy.yaml", tt.policy))
		})
	}
	t.Run("10 MB", func(t *testing.T) {
		path := m.server.write(t, "policy.yaml", webToDB+strings.Repeat("# nothing\n", 1<<20))
		m.server.refused(t, exitError, []string{"policy.yaml", "limit of 1048576 bytes"}, "policy", "apply", "-f", path)
	})
	t.Run("not on a server", func(t *testing.T) {
		m.web.refused(t, exitError, []string{"not a server", "host-1"}, "policy", "apply", "-f", m.web.write(t, "policy.yaml", webToDB))
	})
	if diff := cmp.Diff(before, stored(t, m.server.Host)); diff != "" {
		t.Errorf("refused policies changed etcd:\n%s", diff)
	}
}

// tooMany has more verdicts than a policy map has room for: for each of three
// identities and protocols, ranges that cut into many blocks, most of which no
// other has.
func tooMany() string {
	var b strings.Builder
	b.WriteString("  ingress:\n  - fromEndpoints: [{}]\n    toPorts:\n")
	for i := range 40 {
		b.WriteString("    - ports:\n")
		for j := range 40 {
			n := 1 + 20*(40*i+j)
			fmt.Fprintf(&b, "      - {port: \"%d\", endPort: %d}\n", n, n+1021)
		}
	}
	return b.String()
}

// testObserve follows one host while three flows of known verdict are made.
func (m *trio) testObserve(t *testing.T) {
	follow := m.db.follow(t)
	want := []sight{
		{"FORWARDED", "", m.web.mesh4.String(), 5432, "app=web", "web-to-db ingress[0]", true},
		{"DROPPED", "policy denied", m.web.mesh6.String(), 5433, "app=web", "", true},
		{"DROPPED", "policy denied", m.server.Addr4.String(), 5432, "app=hub", "", true},
	}
	verdicts(t, m.web.Host, map[string][]string{echoed: {target("tcp", m.db.mesh4, 5432)}, silence: {target("tcp", m.db.mesh6, 5433)}})
	verdicts(t, m.server.Host, map[string][]string{silence: {target("tcp", m.db.Addr4, 5432)}})
	lab.Eventually(t, settled, "the flows are seen", func() error {
		return follow.saw(want)
	})
	recorded := m.db.do(t, "observe", "--all", "--verdict", "DROPPED", "--port", "5433", "-o", "json")
	for line := range strings.Lines(recorded) {
		var f observe.Flow
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Verdict != observe.Dropped || f.Destination.Port != 5433 {
			t.Errorf("asked for drops to port 5433, got %s: %v", line, err)
		}
	}
	if recorded == "" {
		t.Error("no drop to port 5433 is recorded")
	}
}

// sight is what the tests look at in a flow.
type sight struct {
	verdict, reason, source string
	port                    uint16
	label, rule             string
	encrypted               bool
}

func (s sight) is(f observe.Flow) bool {
	return !f.Reply && f.Direction == "ingress" && f.Protocol == "TCP" && slices.Contains(f.Source.Labels, "k8s:"+s.label) &&
		s == sight{f.Verdict, f.DropReason, f.Source.IP, f.Destination.Port, s.label, f.Rule, f.Encrypted}
}

// following is the growing output of observe --follow.
type following struct{ path string }

// follow starts observe --follow and waits until it shows a recorded flow.
func (h *host) follow(t *testing.T) following {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "flows")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := h.Command(t.Context(), built.plexus, "observe", "--follow", "--last", "1", "-o", "json")
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	f := following{out.Name()}
	lab.Eventually(t, settled, "observe shows a flow", func() error {
		if len(f.flows()) == 0 {
			return errors.New("nothing yet")
		}
		return nil
	})
	return f
}

func (f following) flows() []observe.Flow {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil
	}
	var out []observe.Flow
	for line := range bytes.Lines(data) {
		var flow observe.Flow
		if json.Unmarshal(line, &flow) == nil { // the last line may be half written
			out = append(out, flow)
		}
	}
	return out
}

// saw says which of want is missing.
func (f following) saw(want []sight) error {
	flows := f.flows()
	for _, s := range want {
		if !slices.ContainsFunc(flows, s.is) {
			return fmt.Errorf("%+v is not among %+v", s, flows)
		}
	}
	return nil
}
