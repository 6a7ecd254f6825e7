package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/test/vm/report"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFollow shows that only a guest that says so is done.
func TestFollow(t *testing.T) {
	for _, tt := range []struct{ name, said, words string }{
		{"done", `{"Kernel":"6.1"}{"Job":"a","Exit":0}{"Done":true}`, ""},
		{"never came up", "", "panicked, or never came up"},
		{"died in the middle", `{"Kernel":"6.1"}{"Job":"a"}`, "panicked, or never came up"},
		{"died in a line", `{"Kernel":"6.1"}{"Job":`, "panicked, or never came up"},
		{"gave up", `{"Error":"no jobs"}`, "no jobs"},
		{"speaks another language", "Booting\n", "read the guest's report"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := follow(strings.NewReader(tt.said), func(report.Line) error { return nil })
			if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) {
				t.Errorf("got %v, want %q", err, tt.words)
			}
		})
	}
}

func TestFollowStopsAtAnError(t *testing.T) {
	want := errors.New("disk full")
	if err := follow(strings.NewReader(`{"Job":"a"}{"Done":true}`), func(report.Line) error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// script is what a guest reports of one job that ends with that code, and of
// another one that never ends.
func script(t *testing.T, l *listener, output string, code int) {
	t.Helper()
	for _, line := range []report.Line{
		{Kernel: "6.1.0-test"},
		{Job: "a", Output: []byte(output[:len(output)/2])}, {Job: "a", Output: []byte(output[len(output)/2:])},
		{Job: "a", Exit: &code},
	} {
		if err := l.line(line); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResults(t *testing.T) {
	passing := "\x16=== RUN   TestLoads\n\x16=== RUN   TestLoads/x/l2=14\n\x16=== ATTR  TestLoads/x/l2=14 verified_instructions 42\n" +
		"\x16--- PASS: TestLoads (0.00s)\n\x16    --- PASS: TestLoads/x/l2=14 (0.00s)\n\x16PASS\n"
	failing := "\x16=== RUN   TestLoads\n    a_test.go:1: wrong\n\x16--- FAIL: TestLoads (0.00s)\n\x16FAIL\n"
	skipping := "\x16=== RUN   TestLoads\n\x16--- SKIP: TestLoads (0.00s)\n\x16PASS\n"
	for _, tt := range []struct {
		name, output string
		code         int
		words        []string
		fails        bool
		measured     counts
	}{
		{"passing", passing, 0, []string{"ok  \tlinux-6.1/a\t", "2 tests passed, 0 failed"}, false, counts{"6.1": {"x/l2=14": 42}}},
		{"failing", failing, 1, []string{"a_test.go:1: wrong", "FAIL\tlinux-6.1/a\t", "(exit code 1)", "1 failed"}, true, counts{}},
		{"skipping", skipping, 0, []string{"skipped linux-6.1/a TestLoads"}, true, counts{}},
		{"passing, and then dying", passing, 2, []string{"FAIL\tlinux-6.1/a\t"}, true, counts{"6.1": {"x/l2=14": 42}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			r, err := newResults(context.Background(), &out)
			if err != nil {
				t.Fatal(err)
			}
			l := r.listen("6.1", []report.Job{{Name: "a"}}, io.Discard)
			script(t, l, tt.output, tt.code)
			if err := l.close(); err != nil {
				t.Error(err)
			}
			if err := r.close(); (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %v", err, tt.fails)
			}
			for _, w := range tt.words {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is not in:\n%s", w, out.String())
				}
			}
			if diff := cmp.Diff(tt.measured, r.measured); diff != "" {
				t.Errorf("measured (-want +got):\n%s", diff)
			}
		})
	}
}

// TestJobsThatNeverEnd shows that a test is not forgotten with its machine.
func TestJobsThatNeverEnd(t *testing.T) {
	var out strings.Builder
	r, err := newResults(context.Background(), &out)
	if err != nil {
		t.Fatal(err)
	}
	l := r.listen("6.1", []report.Job{{Name: "a"}, {Name: "b"}}, io.Discard)
	if err := l.line(report.Line{Job: "a", Output: []byte("\x16=== RUN   TestHangs\nhello\n")}); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err == nil || !strings.Contains(err.Error(), "never ended: a, b") {
		t.Errorf("got %v", err)
	}
	if r.close(); !strings.Contains(out.String(), "hello") {
		t.Errorf("what the test said is not in %q", out.String())
	}
}

func TestChoose(t *testing.T) {
	all := []string{"a", "b"}
	name := func(s string) string { return s }
	if got, err := choose("", all, name); err != nil || !cmp.Equal(got, all) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := choose("b", all, name); err != nil || !cmp.Equal(got, []string{"b"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := choose("b,c", all, name); err == nil {
		t.Errorf("got %v", got)
	}
}
