package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/control/token"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"plexus":  main,
		"code":    runForCode,
		"planted": plantedMain,
	})
}

// runForCode is the command "code N COMMAND ARG…": it succeeds if COMMAND exits
// with N.
func runForCode() {
	want, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "code:", err)
		os.Exit(125)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "code:", err)
		os.Exit(125)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		fmt.Fprintf(os.Stderr, "code: exit code is %d, want %d\n", got, want)
		os.Exit(1)
	}
}

// TestScripts runs testdata/*.txtar: the real command, in a process of its own,
// against a daemon that speaks the real API over a real socket.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       os.Getenv("PLEXUS_UPDATE_SCRIPTS") != "",
		RequireExplicitExec: true,
		Setup:               startDaemon,
	})
}

func startDaemon(env *testscript.Env) error {
	socket := filepath.Join(env.WorkDir, "plexusd.sock")
	s, err := api.NewServer(api.Options{Socket: socket, Backend: fakeDaemon{env.WorkDir}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	env.Defer(func() {
		stop()
		if err := <-done; err != nil {
			env.T().Log("server: ", err)
		}
	})
	env.Setenv("PLEXUS_SOCKET", socket)
	env.Setenv("TZ", "UTC")
	env.Setenv(sshVariable, "")               // not that of whoever runs the tests
	env.Setenv("GORACE", "atexit_sleep_ms=0") // or every command takes a second under the race detector
	tok, err := token.New([]string{"192.0.2.1:7443"}, [32]byte{1})
	if err != nil {
		return err
	}
	env.Setenv("TOKEN", tok.Format())
	select {
	case <-s.Ready():
		return nil
	case err := <-done:
		done <- nil
		return err
	}
}
