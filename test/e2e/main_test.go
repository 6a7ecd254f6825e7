package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaries are the programs under test, built by TestMain.
type binaries struct{ plexusd, plexus string }

var built binaries

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	os.Exit(run(m))
}

// run builds the programs where the tests can run at all, which is as root.
func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // each test skips or fails by netnstest.Require
	}
	dir, err := os.MkdirTemp("", "plexus-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make directory for the programs:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./cmd/plexusd", "./cmd/plexus")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		return 1
	}
	built = binaries{plexusd: filepath.Join(dir, "plexusd"), plexus: filepath.Join(dir, "plexus")}
	return m.Run()
}
