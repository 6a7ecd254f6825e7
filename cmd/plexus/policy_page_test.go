package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPolicyTestPage plays the example of docs/policy-test.md: its first YAML
// block are policies, the second tests, and its first block of text what is
// printed.
func TestPolicyTestPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "policy-test.md"))
	if err != nil {
		t.Fatal(err)
	}
	yaml, text := fenced(string(page), "yaml"), fenced(string(page), "text")
	if len(yaml) < 2 || len(text) < 1 {
		t.Fatalf("page has %d blocks of YAML and %d of text", len(yaml), len(text))
	}
	t.Chdir(t.TempDir())
	for i, name := range []string{"policies.yaml", "tests.yaml"} {
		if err := os.WriteFile(name, []byte(yaml[i]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := newRoot(&app{})
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"policy", "test", "-f", "policies.yaml", "tests.yaml"})
	if err := cmd.Execute(); !errors.Is(err, errTestsFailed) {
		t.Errorf("error %v, want %v", err, errTestsFailed)
	}
	if diff := cmp.Diff(text[0], out.String()); diff != "" {
		t.Errorf("output (-page +got):\n%s", diff)
	}
}

// fenced returns the fenced blocks of a page in a language.
func fenced(page, language string) []string {
	var out []string
	for i, part := range strings.Split(page, "\n```") {
		if block, ok := strings.CutPrefix(part, language+"\n"); ok && i%2 == 1 {
			out = append(out, block+"\n")
		}
	}
	return out
}
