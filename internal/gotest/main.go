// Command gotest runs "go test" with its arguments and prints what it prints,
// with the output of failed tests only, then one line that counts the tests and
// one for each that was skipped, so that no skip goes unseen.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/plexusmesh/plexus/internal/testsum"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open pipe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	sum := testsum.New(out)
	readErr := sum.Read(events)
	if err := cmd.Wait(); err != nil {
		err = fmt.Errorf("go test: %w", err)
		sum.Close()
		return errors.Join(readErr, err)
	}
	sum.Close()
	if readErr == nil && sum.Failed() > 0 {
		return fmt.Errorf("%d tests failed", sum.Failed())
	}
	return readErr
}
