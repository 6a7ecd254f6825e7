package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/observe"
	"github.com/plexusmesh/plexus/policy"
)

func TestPoliciesAreBounded(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte("a"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	full, second, one, huge := write("full.yaml", policy.MaxFileSize), write("second.yaml", policy.MaxFileSize), write("one.yaml", 1), write("huge.yaml", 10<<20)
	tests := []struct {
		name  string
		stdin io.Reader
		files []string
		want  string // of the error; "" for none
	}{
		{"at both limits", nil, []string{full, second}, ""},
		{"ten megabytes", nil, []string{huge}, "huge.yaml: it has more than the limit of 1048576 bytes (10485760)"},
		{"too much together", nil, []string{full, second, one}, "one.yaml and those before it have 2097153 bytes, the limit of one apply is 2097152"},
		{"endless input", neverEnds{}, []string{"-"}, "read -: it has more than the limit of 1048576 bytes"},
		{"a directory without policies", nil, []string{t.TempDir()}, "has no *.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files, err := readPolicies(tt.stdin, tt.files)
			switch {
			case tt.want == "" && (err != nil || len(files) != len(tt.files)):
				t.Errorf("got %d files, %v", len(files), err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}

// neverEnds is standard input that always has more.
type neverEnds struct{}

func (neverEnds) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestYAMLReadsBackAsWritten(t *testing.T) {
	in := map[string]any{
		"empty": "", "bool": "true", "no": "no", "null": "null", "number": "0123", "float": "1e3", "date": "2026-11-22",
		"lines": "a\n  b\n", "quote": `"x": 'y'`, "tag": "!x", "colon": "a: b", "hash": "a #b", "html": "<&>",
		"control": "\x1b[31m", "unicode": "ä\u2028😀", "list": []any{}, "map": map[string]any{}, "nothing": nil,
		"big": 1 << 53, "yes": true,
	}
	var out bytes.Buffer
	if err := writeYAML(&out, in); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := yaml.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatalf("%v in:\n%s", err, &out)
	}
	if diff := cmp.Diff(in, back); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 5 << 30: "5 GiB", 1<<63 - 1: "8 EiB"} {
		if got := byteSize(n); got != want {
			t.Errorf("byteSize(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	if p := newPalette(&bytes.Buffer{}); p.good("x") != "x" {
		t.Error("colours where there is no terminal")
	}
	if got := (palette{true}).bad("x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("bad = %q", got)
	}
	if null, err := os.Open(os.DevNull); err != nil || newPalette(null).on {
		t.Errorf("colours on %s, %v", os.DevNull, err)
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if !newPalette(tty).on {
		t.Error("no colours on a terminal")
	}
	t.Setenv("NO_COLOR", "1")
	if newPalette(tty).on {
		t.Error("colours despite NO_COLOR")
	}
}

func TestParseSince(t *testing.T) {
	for in, want := range map[string]time.Time{"": {}, "5m": noon.Add(-5 * time.Minute), "0s": noon, "2026-11-22T13:00:00+01:00": noon} {
		got, err := parseSince(in, noon)
		if err != nil || !got.Equal(want) {
			t.Errorf("parseSince(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"-5m", "5", "yesterday"} {
		if _, err := parseSince(in, noon); err == nil {
			t.Errorf("parseSince(%q) is accepted", in)
		}
	}
}

func TestLastOf(t *testing.T) {
	tests := []struct {
		q          observe.Query
		given, all bool
		want       int
	}{
		{observe.Query{}, false, false, 20},
		{observe.Query{}, false, true, 0},
		{observe.Query{}, true, false, -1},
		{observe.Query{Last: 7, Follow: true}, true, false, 7},
		{observe.Query{Follow: true}, false, false, -1},
		{observe.Query{Follow: true, Since: noon}, false, false, 0},
		{observe.Query{Follow: true}, false, true, 0},
	}
	for _, tt := range tests {
		if got := lastOf(tt.q, tt.given, tt.all); got != tt.want {
			t.Errorf("lastOf(%+v, %v, %v) = %d, want %d", tt.q, tt.given, tt.all, got, tt.want)
		}
	}
}

func TestWaiter(t *testing.T) {
	degraded := api.Status{State: "degraded", Sources: []api.SourceStatus{{Synced: true}, {}}}
	boom := errors.New("boom")
	down := func() error {
		_, err := api.NewClient(filepath.Join(t.TempDir(), "none")).Status(t.Context())
		return err
	}()
	type answer struct {
		status api.Status
		err    error
	}
	tests := []struct {
		name    string
		answers []answer // the last one stands
		want    answer
		took    time.Duration
		said    string
	}{
		{"ready at once", []answer{{api.Status{State: "ready"}, nil}}, answer{api.Status{State: "ready"}, nil}, 0, ""},
		{"down, degraded, ready", []answer{{err: down}, {degraded, nil}, {api.Status{State: "ready"}, nil}}, answer{api.Status{State: "ready"}, nil}, 2 * pollInterval, ""},
		{"another error ends it", []answer{{degraded, nil}, {err: boom}}, answer{err: boom}, pollInterval, ""},
		{"never ready", []answer{{degraded, nil}}, answer{degraded, nil}, time.Second, "plexus: host is not ready after 1s: it is degraded, with 1 of 2 sources synced\n"},
		{"never there", []answer{{err: down}}, answer{err: down}, time.Second, "plexus: host is not ready after 1s: plexusd does not answer yet\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				calls, start := 0, time.Now()
				ask := func(context.Context) (api.Status, error) {
					a := tt.answers[min(calls, len(tt.answers)-1)]
					calls++
					return a.status, a.err
				}
				s, err := waiter{ask: ask, timeout: time.Second, tell: &said}.ready(t.Context())
				if s.State != tt.want.status.State || !errors.Is(err, tt.want.err) {
					t.Errorf("got %v, %v; want %v, %v", s.State, err, tt.want.status.State, tt.want.err)
				}
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if said.String() != tt.said {
					t.Errorf("said %q, want %q", &said, tt.said)
				}
			})
		})
	}
}

func TestRevisionAction(t *testing.T) {
	for want, r := range map[string]api.Revision{
		"apply":                        {Action: "apply"},
		"rollback of 1":                {Action: "rollback", Of: 1},
		"rollback of 7":                {Action: "rollback", Of: 7, To: 6},
		"rollback to 5":                {Action: "rollback", Of: 7, To: 5},
		"rollback of 7, not confirmed": {Action: "rollback", Of: 7, To: 6, Expired: true},
	} {
		if got := revisionAction(r); got != want {
			t.Errorf("revisionAction(%+v) = %q, want %q", r, got, want)
		}
	}
}
