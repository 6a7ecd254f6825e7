// Package testsum prints what go test -json tells: the output of failed tests
// only, then one line that counts the tests and one for each that was skipped.
package testsum

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Event is one line of go test -json, see go doc test2json.
type Event struct {
	Action, Package, Test, Output string
	Key, Value                    string // of an attribute that the test gave itself
}

// Summary holds back what running tests print until it is known how they end.
type Summary struct {
	out            io.Writer
	held           map[string][]string // output by package and test
	passed, failed int
	skipped        []string
	packages       map[string]bool
}

// New returns a summary that prints to out.
func New(out io.Writer) *Summary {
	return &Summary{out: out, held: map[string][]string{}, packages: map[string]bool{}}
}

// Read takes every line of in until its end.
func (s *Summary) Read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.Line(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read go test: %w", err)
		}
	}
}

// Line takes one event. What is none is printed as it stands, because that is how
// go test reports trouble of its own.
func (s *Summary) Line(text string) {
	var e Event
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

func (s *Summary) test(e Event) {
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

// Close prints the counts, and first what tests said that never ended: a panic
// or a timeout is there.
func (s *Summary) Close() {
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

// Failed returns how many tests have failed so far.
func (s *Summary) Failed() int { return s.failed }

// Skipped returns how many tests were skipped so far.
func (s *Summary) Skipped() int { return len(s.skipped) }
