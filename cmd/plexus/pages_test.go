package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// prompted is a command at a prompt that names its host: "db-1$ sudo plexus join …".
var prompted = regexp.MustCompile(`^[a-z0-9-]+[$#]\s+(?:sudo )?(plexus .*)$`)

// The pages that teach show commands at a prompt: each must be one that exists.
func TestCommandsOnPagesParse(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			m := prompted.FindStringSubmatch(strings.TrimSpace(line))
			if m == nil {
				continue
			}
			command, _, _ := strings.Cut(m[1], " #")
			if err := parses(strings.TrimSpace(command)); err != nil {
				t.Errorf("%s: %q: %v", page, command, err)
			}
			checked++
		}
	}
	if checked < 15 {
		t.Errorf("found %d commands on the pages: the pattern no longer fits them", checked)
	}
}
