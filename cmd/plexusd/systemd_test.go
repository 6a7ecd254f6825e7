package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const unitDir = "../../systemd"

// units are the unit files, by name.
func units(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(unitDir, "*.service"))
	if err != nil || len(files) != 2 {
		t.Fatalf("unit files %v, %v", files, err)
	}
	out := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = string(text)
	}
	return out
}

// values returns the words of every line of a unit that sets key.
func values(unit, key string) []string {
	var out []string
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			out = append(out, strings.Fields(value)...)
		}
	}
	return out
}

// systemd itself reads the units, with a program where theirs would be installed.
func TestSystemdTakesTheUnits(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "plexusd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no"}
	for name, text := range units(t) {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/bin/plexusd", program)), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v (tools/deps.sh test installs systemd-analyze): %s", err, out)
	}
	if complaint := regexp.MustCompile(`(?m)^.*plexus.*$`).Find(out); complaint != nil {
		t.Errorf("systemd says %s", complaint)
	}
}

func TestTheGuardComesBeforeTheNetworkAndEnds(t *testing.T) {
	guard := units(t)["plexus-guard.service"]
	for key, want := range map[string]string{
		"Before": "network-pre.target", "Wants": "network-pre.target", "DefaultDependencies": "no", "Type": "oneshot",
		"RequiresMountsFor": "/sys/fs/bpf", "After": "local-fs.target", "WantedBy": "sysinit.target",
	} {
		if got := values(guard, key); !slices.Contains(got, want) {
			t.Errorf("%s is %v, without %s", key, got, want)
		}
	}
	if got := values(guard, "Before"); !slices.Contains(got, "plexusd.service") {
		t.Error("plexusd may start first, and the guard would do nothing")
	}
	limit, err := time.ParseDuration(values(guard, "TimeoutStartSec")[0])
	if err != nil || limit <= time.Minute {
		t.Errorf("systemd ends the guard after %v, and guard.timeout may be a minute: %v", limit, err)
	}
}
