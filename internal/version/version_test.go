package version

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestInfo(t *testing.T) {
	i := Info{Version: "v1.2.3", Commit: "abc", Date: "2026-01-02T03:04:05Z", Go: "go1.26", Platform: "linux/arm64"}
	if got, want := i.String(), "v1.2.3 (commit abc, 2026-01-02T03:04:05Z, go1.26, linux/arm64)"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
	data, err := json.Marshal(i)
	want := `{"version":"v1.2.3","commit":"abc","date":"2026-01-02T03:04:05Z","go":"go1.26","platform":"linux/arm64"}`
	if err != nil || string(data) != want {
		t.Errorf("got %s, %v; want %s", data, err, want)
	}
	if got := Get(); got.Go != runtime.Version() || got.Version == "" {
		t.Errorf("this build: %+v", got)
	}
}

// The linker ignores a variable that it does not find, so a rename here would
// silently make every release a development build.
func TestMakefileSetsTheseVariables(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "make", "-s", "-C", filepath.Join("..", ".."), "print-ldflags").CombinedOutput()
	if err != nil {
		t.Fatalf("make print-ldflags: %v: %s", err, out)
	}
	for _, name := range []string{"Version", "Commit", "Date"} {
		if !strings.Contains(string(out), "-X github.com/plexusmesh/plexus/internal/version."+name+"=") {
			t.Errorf("%s is not set by %s", name, out)
		}
	}
}
