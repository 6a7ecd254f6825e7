package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
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
		{"format", "log: {format: xml}\n", `log.format "xml" is unknown`},
		{"device", "wireguard: {device: a/b}\n", `wireguard.device "a/b"`},
		{"long device", "wireguard: {device: sixteen-bytes-xx}\n", "cannot name an interface"},
		{"interface after a space", "interfaces: 'eth0, eth1'\n", `interfaces: " eth1"`},
		{"broken pattern", "interfaces: ['eth[']\n", `interfaces: "eth["`},
		{"port zero", "api: {port: 0}\n", "api.port 0 is out of range"},
		{"port too large", "api: {port: 70000}\n", "api.port 70000 is out of range"},
		{"same port", "api: {port: 2379}\n", "are both 2379"},
		{"relative path", "state-dir: here\n", `state-dir "here" is not an absolute path`},
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

// The page names every setting with its default.
func TestThePageIsComplete(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range defaults {
		text := fmt.Sprintf("`%v`", value)
		if key == "interfaces" {
			text = "none"
		}
		if row := "| `" + key + "` | " + text + " |"; !strings.Contains(string(page), row) {
			t.Errorf("docs/configuration.md has no row %q", row)
		}
		if usage[key] == "" {
			t.Errorf("flag --%s has no text", flagName(key))
		}
	}
}
