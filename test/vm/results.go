package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/plexusmesh/plexus/internal/testsum"
	"github.com/plexusmesh/plexus/test/vm/report"
)

// instructionsKey is the attribute by which a test tells how many instructions
// the verifier looked at; the name of the subtest tells of which program.
const instructionsKey = "verified_instructions"

// results are what all machines report, in the order in which it comes.
type results struct {
	test2json string // path of Go's own tool

	mu       sync.Mutex
	out      io.Writer
	sum      *testsum.Summary
	failed   []string // jobs
	measured counts
}

func newResults(ctx context.Context, out io.Writer) (*results, error) {
	path, err := exec.CommandContext(ctx, "go", "tool", "-n", "test2json").Output()
	if err != nil {
		return nil, fmt.Errorf("find go tool test2json: %w", err)
	}
	return &results{test2json: strings.TrimSpace(string(path)), out: out, sum: testsum.New(out), measured: counts{}}, nil
}

// event takes one line of test2json.
func (r *results) event(kernel, line string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e testsum.Event
	if err := json.Unmarshal([]byte(line), &e); err == nil && e.Action == "fail" && e.Test != "" {
		fmt.Fprintf(r.out, "in %s, %s:\n", e.Package, e.Test) // machines speak in turns
	}
	r.sum.Line(line)
	if e.Action != "attr" || e.Key != instructionsKey {
		return nil
	}
	n, err := strconv.Atoi(e.Value)
	if err != nil {
		return fmt.Errorf("read attribute of %s: %w", e.Test, err)
	}
	_, program, _ := strings.Cut(e.Test, "/")
	r.measured.put(kernel, program, n)
	return nil
}

// ended prints the line with which go test ends a package.
func (r *results) ended(name string, code int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if code != 0 {
		r.failed = append(r.failed, name)
		fmt.Fprintf(r.out, "FAIL\t%s\t%.1fs (exit code %d)\n", name, took.Seconds(), code)
		return
	}
	fmt.Fprintf(r.out, "ok  \t%s\t%.1fs\n", name, took.Seconds())
}

func (r *results) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
}

// close prints the counts and returns an error unless every test has passed.
func (r *results) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.Close()
	if len(r.failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(r.failed, ", "))
	}
	if failed, skipped := r.sum.Failed(), r.sum.Skipped(); failed+skipped > 0 {
		return fmt.Errorf("%d tests failed, %d were skipped", failed, skipped)
	}
	return nil
}

// listener takes the report of one machine. Jobs run one after the other.
type listener struct {
	*results
	kernel string
	events io.Writer // takes every line of test2json
	left   []string  // jobs that have not ended
	now    *converter
}

func (r *results) listen(kernel string, jobs []report.Job, events io.Writer) *listener {
	l := &listener{results: r, kernel: kernel, events: events}
	for _, j := range jobs {
		l.left = append(l.left, j.Name)
	}
	return l
}

func (l *listener) name(job string) string { return "linux-" + l.kernel + "/" + job }

// line takes one line of the report.
func (l *listener) line(line report.Line) (err error) {
	if line.Kernel != "" {
		l.note("linux-%s: %s is up", l.kernel, line.Kernel)
	}
	if line.Job == "" {
		return nil
	}
	if l.now == nil {
		if l.now, err = l.convert(line.Job); err != nil {
			return err
		}
	}
	if len(line.Output) > 0 {
		if _, err := l.now.in.Write(line.Output); err != nil {
			return fmt.Errorf("hand on output of %s: %w", line.Job, err)
		}
	}
	if line.Exit == nil {
		return nil
	}
	took, err := l.now.close()
	l.now = nil
	l.left = slices.DeleteFunc(l.left, func(name string) bool { return name == line.Job })
	l.ended(l.name(line.Job), *line.Exit, took)
	return err
}

// close says what never ended, and what it had said until then.
func (l *listener) close() error {
	var err error
	if l.now != nil {
		_, err = l.now.close()
	}
	if len(l.left) > 0 {
		err = errors.Join(err, fmt.Errorf("never ended: %s", strings.Join(l.left, ", ")))
	}
	return err
}

// converter is one run of test2json.
type converter struct {
	in      io.WriteCloser
	cmd     *exec.Cmd
	done    chan error
	started time.Time
}

// convert starts to read what a job prints.
func (l *listener) convert(job string) (*converter, error) {
	cmd := exec.Command(l.test2json, "-t", "-p", l.name(job))
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start test2json: %w", err)
	}
	c := &converter{in: in, cmd: cmd, done: make(chan error, 1), started: time.Now()}
	go func() { c.done <- l.convertAll(out) }()
	return c, nil
}

func (l *listener) convertAll(out io.Reader) error {
	lines := bufio.NewReader(out)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			if _, err := io.WriteString(l.events, text); err != nil {
				return fmt.Errorf("keep the events of linux-%s: %w", l.kernel, err)
			}
			if err := l.event(l.kernel, text); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *converter) close() (time.Duration, error) {
	err := c.in.Close()
	return time.Since(c.started), errors.Join(err, <-c.done, c.cmd.Wait())
}
