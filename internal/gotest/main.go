// Command gotest runs "go test" with its arguments and prints what it prints,
// with the output of failed tests only, then one line that counts the tests and
// one for each that was skipped, so that no skip goes unseen.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
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
	sum := newSummary(out)
	readErr := sum.read(events)
	if err := cmd.Wait(); err != nil {
		err = fmt.Errorf("go test: %w", err)
		sum.close()
		return errors.Join(readErr, err)
	}
	sum.close()
	if readErr == nil && sum.failed > 0 {
		return fmt.Errorf("%d tests failed", sum.failed)
	}
	return readErr
}

// event is one line of go test -json, see go doc test2json.
type event struct {
	Action, Package, Test, Output string
}

// summary holds back what running tests print until it is known how they end.
type summary struct {
	out            io.Writer
	held           map[string][]string // output by package and test
	passed, failed int
	skipped        []string
	packages       map[string]bool
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, held: map[string][]string{}, packages: map[string]bool{}}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read go test: %w", err)
		}
	}
}

// line takes what is no event as it stands, because that is how go test reports
// trouble of its own.
func (s *summary) line(text string) {
	var e event
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		fmt.Fprint(s.out, text)
		return
	}
	if e.Test != "" {
		s.test(e)
		return
	}
	if e.Package != "" && (e.Action == "pass" || e.Action == "fail") {
		s.packages[e.Package] = true
	}
	if e.Output != "" && e.Output != "PASS\n" {
		fmt.Fprint(s.out, e.Output)
	}
}

func (s *summary) test(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") { // RUN, PAUSE, CONT and NAME only help to read along
			s.held[key] = append(s.held[key], e.Output)
		}
		return
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		fmt.Fprint(s.out, strings.Join(s.held[key], ""))
	case "skip":
		s.skipped = append(s.skipped, key)
	default:
		return
	}
	delete(s.held, key)
}

// close prints the counts, and first what tests said that never ended: a panic
// or a timeout is there.
func (s *summary) close() {
	for _, output := range s.held {
		fmt.Fprint(s.out, strings.Join(output, ""))
	}
	slices.Sort(s.skipped)
	for _, name := range s.skipped {
		fmt.Fprintln(s.out, "skipped", name)
	}
	fmt.Fprintf(s.out, "%d tests passed, %d failed, %d skipped, in %d packages\n",
		s.passed, s.failed, len(s.skipped), len(s.packages))
}
