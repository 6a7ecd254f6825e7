package main

import (
	"strings"
	"testing"
)

func TestRunFailsWithTheTests(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-run=^$", "./does-not-exist"}, &out); err == nil {
		t.Errorf("no error from a package that does not exist: %s", out.String())
	}
	out.Reset()
	if err := run([]string{"-run=^TestSummary$", "../testsum"}, &out); err != nil || !strings.Contains(out.String(), "1 tests passed") {
		t.Errorf("got %v and %s", err, out.String())
	}
}
