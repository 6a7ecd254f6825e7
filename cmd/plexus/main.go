// Command plexus asks a running plexusd, over its socket, to make, join, show
// and change a mesh. It changes nothing by itself and keeps no state.
//
// Each file holds one command: its flags, the call they become, the output.
// Results go to standard output, everything else to standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, as every plexus command has them.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitDegraded = 3
	exitFailed   = 4 // a policy test did not pass
)

func main() { os.Exit(run(&app{})) }

func run(a *app) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd, err := newRoot(a).ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errDegraded):
		return exitDegraded
	case errors.Is(err, errTestsFailed):
		return exitFailed
	case ctx.Err() != nil:
		return report(os.Stderr, "interrupted", exitError)
	case errors.As(err, &usage), !a.running: // cobra's own errors come before a command runs
		return report(os.Stderr, fmt.Sprintf("%v\nsee '%s --help'", err, cmd.CommandPath()), exitUsage)
	}
	return report(os.Stderr, err.Error(), exitError)
}

func report(w io.Writer, text string, code int) int {
	fmt.Fprintln(w, "plexus:", text)
	return code
}

// usageError is a mistake in the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// asUsage marks err, if there is one, as a mistake in the command line.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// These end a command that has already said what is wrong.
var (
	errDegraded    = errors.New("degraded")
	errTestsFailed = errors.New("policy tests failed")
)
