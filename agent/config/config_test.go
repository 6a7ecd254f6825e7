package config

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

// load reads file content with extra flags.
func load(t *testing.T, content string, args ...string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plexusd.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("plexusd", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse(append([]string{"--config", path}, args...)); err != nil {
		t.Fatal(err)
	}
	return Load(flags)
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := load(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Socket(), "/run/plexus/plexusd.sock"; got != want {
		t.Errorf("Socket() = %q, want %q", got, want)
	}
	if c.WireGuard.Device != "plexus0" || c.WireGuard.Port != 51871 || c.API.Port != 7443 {
		t.Errorf("defaults are %+v", c)
	}
}

func TestPrecedence(t *testing.T) {
	const file = "log:\n  level: debug\nwireguard:\n  port: 1000\napi:\n  port: 2000\n"
	t.Setenv("PLEXUS_WIREGUARD_PORT", "1001")
	t.Setenv("PLEXUS_API_PORT", "2001")
	c, err := load(t, file, "--api-port", "2002")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Log.Level, c.WireGuard.Port, c.API.Port}
	want := []any{"debug", 1001, 2002}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("file, environment, flag: %s", diff)
	}
}

func TestBadInputIsNamed(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"unknown key", "wireguard:\n  prot: 1\n", "unknown keys: prot"},
		{"unknown section", "wiregard: {port: 1}\n", "unknown keys: wiregard"},
		{"not yaml", "a: [", "read configuration"},
		{"level", "log: {level: loud}\n", `log.level "loud" is unknown`},
		{"source limit", "datapath: {sourceLimit: 1000001}\n", "datapath.sourceLimit 1000001 is out of range: use 0 to 1000000"},
		{"xdp", "datapath: {xdp: generic}\n", `datapath.xdp "generic" is unknown: use auto or off`},
		{"format", "log: {format: xml}\n", `log.format "xml" is unknown`},
		{"device", "wireguard: {device: a/b}\n", `wireguard.device "a/b"`},
		{"long device", "wireguard: {device: sixteen-bytes-xx}\n", "cannot name an interface"},
		{"interface after a space", "interfaces: 'eth0, eth1'\n", `interfaces: " eth1"`},
		{"broken pattern", "interfaces: ['eth[']\n", `interfaces: "eth["`},
		{"port zero", "api: {port: 0}\n", "api.port 0 is out of range"},
		{"port too large", "api: {port: 70000}\n", "api.port 70000 is out of range"},
		{"same port", "api: {port: 2379}\n", "are both 2379"},
		{"relative path", "state-dir: here\n", `state-dir "here" is not an absolute path`},
		{"relative policies", "policy: {dir: policies}\n", `policy.dir "policies" is not an absolute path`},
		{"failsafe", "failsafe: [ssh from office]\n", `failsafe entry "ssh from office"`},
		{"failsafe beside none", "failsafe: [none, ssh]\n", "none stands alone"},
		{"named port", "named-ports: [pg]\n", `named-ports entry "pg"`},
		{"guard", "guard: {onFailure: shut}\n", `guard.onFailure "shut" is unknown: use open or closed`},
		{"guard for ever", "guard: {timeout: 5m}\n", "guard.timeout 5m0s is out of range"},
		{"guard of nothing", "guard: {interfaces: none}\n", `guard.interfaces "none" is unknown`},
		{"conntrack", "conntrack: {size: 5}\n", "conntrack.size 5 is out of range"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.content)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	_, err := load(t, "log: {level: loud}\nstate-dir: here\n")
	if err == nil || !strings.Contains(err.Error(), "loud") || !strings.Contains(err.Error(), "here") {
		t.Errorf("error %v, want both problems", err)
	}
}

func TestOnlyTheDefaultFileMayBeMissing(t *testing.T) {
	flags := pflag.NewFlagSet("plexusd", pflag.ContinueOnError)
	AddFlags(flags)
	if err := flags.Parse([]string{"--config", "/nonexistent/plexusd.yaml"}); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(flags); err == nil || !strings.Contains(err.Error(), "/nonexistent/plexusd.yaml") {
		t.Errorf("error %v, want the missing file's name", err)
	}
}

// TestFailsafeInEveryForm writes one set of exceptions in all the ways there are.
func TestFailsafeInEveryForm(t *testing.T) {
	const text = "ssh from 192.0.2.0/24,2001:db8::/32"
	want := []datapath.Pinhole{
		{Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix("192.0.2.0/24")},
		{Direction: policy.Ingress, Protocol: 6, Port: 22, Remote: netip.MustParsePrefix("2001:db8::/32")},
	}
	for _, tt := range []struct {
		name, file, env string
		args            []string
		want            []datapath.Pinhole
	}{
		{name: "a list", file: "failsafe:\n  - ssh from 192.0.2.0/24\n  - ssh from 2001:db8::/32\n", want: want},
		{name: "commas", file: "failsafe: ['" + text + "']\n", want: want},
		{name: "one text", file: "failsafe: '" + text + "'\n", want: want},
		{name: "environment", env: text, want: want},
		{name: "one flag", args: []string{"--failsafe", text}, want: want},
		{name: "two flags", args: []string{"--failsafe", "ssh from 192.0.2.0/24", "--failsafe", "ssh from 2001:db8::/32"}, want: want},
		{name: "an empty list", file: "failsafe: []\n"},
		{name: "none", file: "failsafe: none\n"},
		{name: "none in the environment", env: "none"},
		{name: "none as a flag", args: []string{"--failsafe=none"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PLEXUS_FAILSAFE", tt.env)
			c, err := load(t, tt.file, tt.args...)
			if err != nil {
				t.Fatal(err)
			}
			f, err := facts.ParseFailsafe(c.Failsafe)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.SortedFunc(maps.Keys(facts.Services(facts.Ports{SSH: []uint16{22}}, f)), datapath.Pinhole.Compare)
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatPolicyNeeds(t *testing.T) {
	c, err := load(t, "")
	if err != nil || !c.Policy.DefaultLocalCluster || c.Policy.Dir != "/etc/plexus/policies" || len(c.NamedPorts) != 0 {
		t.Errorf("defaults %+v, %v", c, err)
	}
	c, err = load(t, "policy: {dir: /srv/policies}\nnamed-ports: [pg=5432/TCP, dns=53/UDP]\n", "--policy-default-local-cluster=false")
	if err != nil || c.Policy.DefaultLocalCluster || c.Policy.Dir != "/srv/policies" || len(c.NamedPorts) != 2 {
		t.Errorf("set %+v, %v", c, err)
	}
	if c, err = load(t, "policy:\n  defaultLocalCluster: false\n"); err != nil || c.Policy.DefaultLocalCluster {
		t.Errorf("in the file: %+v, %v", c.Policy, err)
	}
	t.Setenv("PLEXUS_POLICY_DEFAULT_LOCAL_CLUSTER", "false")
	if c, err = load(t, ""); err != nil || c.Policy.DefaultLocalCluster {
		t.Errorf("in the environment: %+v, %v", c.Policy, err)
	}
}

// TestThePageShowsWhatWorks loads every example of the page.
func TestThePageShowsWhatWorks(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := strings.Split(string(page), "```yaml\n")[1:]
	if len(examples) < 3 {
		t.Errorf("%d examples, want the first one, a failsafe and none", len(examples))
	}
	for _, rest := range examples {
		example, _, _ := strings.Cut(rest, "```")
		if _, err := load(t, example); err != nil {
			t.Errorf("%s%v", example, err)
		}
	}
}

// The page names every setting with its default.
func TestThePageIsComplete(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range defaults {
		text := fmt.Sprintf("`%v`", value)
		if list, ok := value.([]string); ok {
			text = "`" + strings.Join(list, ", ") + "`"
			if len(list) == 0 {
				text = "none"
			}
		}
		if row := "| `" + key + "` | " + text + " |"; !strings.Contains(string(page), row) {
			t.Errorf("docs/configuration.md has no row %q", row)
		}
		if usage[key] == "" {
			t.Errorf("flag --%s has no text", flagName(key))
		}
	}
}

func TestGuardIsSetInEveryForm(t *testing.T) {
	t.Setenv("PLEXUS_GUARD_ON_FAILURE", "closed")
	c, err := load(t, "guard: {timeout: 30s}\n", "--guard-interfaces", "physical")
	if err != nil {
		t.Fatal(err)
	}
	want := Guard{OnFailure: GuardClosed, Timeout: 30 * time.Second, Interfaces: GuardPhysical}
	if diff := cmp.Diff(want, c.Guard); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
