package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// Probes run this program on a host:
//
//	probe listen PORT…          accept TCP on these ports until killed
//	probe open ADDRESS:PORT     connect until it succeeds
//	probe closed ADDRESS:PORT   connect until it gets no answer
//	probe echo PORT…            answer UDP on these ports until killed
//	probe flips ADDRESS PORT…   send to each all the time, and say when another one answers
//
// open and closed print "watching" once, and then the time at which they saw what
// they wait for, in nanoseconds since 1970.
const (
	probePeriod   = 5 * time.Millisecond
	probePatience = 50 * time.Millisecond // for an answer; far above what a host on the same machine needs
	probeSilences = 3                     // in a row, before silence is believed: the machine may be busy
)

var errProbeUsage = errors.New("usage: probe listen|echo PORT… | probe open|closed ADDRESS:PORT | probe flips ADDRESS PORT…")

func probe(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errProbeUsage
	}
	switch args[0] {
	case "listen":
		return listen(ctx, args[1:])
	case "open", "closed":
		return watch(ctx, args[0] == "open", args[1])
	case "echo":
		return echo(ctx, args[1:])
	case "flips":
		return flips(ctx, args[1], args[2:])
	}
	return errProbeUsage
}

func listen(ctx context.Context, ports []string) error {
	for _, port := range ports {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer l.Close()
		go accept(l)
	}
	fmt.Println("watching")
	<-ctx.Done()
	return nil
}

func accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.Close() // it stood, which is all that counts
	}
}

// watch tries until connections open, or with open false, until they do not.
// One counts from when it stands; packets that are dropped count from when the
// first of them was sent, once a few in a row were.
func watch(ctx context.Context, open bool, address string) error {
	fmt.Println("watching")
	var since time.Time
	for silent := 0; silent < probeSilences; {
		start := time.Now()
		answered, err := try(ctx, address)
		switch {
		case err != nil:
			return err
		case answered && open:
			since, silent = time.Now(), probeSilences
		case answered || open:
			silent = 0
			time.Sleep(probePeriod)
		case silent == 0:
			since, silent = start, 1
		default:
			silent++
		}
	}
	fmt.Println(since.UnixNano())
	return nil
}

// try makes one attempt. Before a join there is no route, which is no answer
// either.
func try(ctx context.Context, address string) (answered bool, err error) {
	dialer := net.Dialer{Timeout: probePatience}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		return true, conn.Close()
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false, fmt.Errorf("probe %s: nothing listens there: %w", address, err)
	}
	return false, nil
}

// watcher is a probe that runs on a host.
type watcher struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

// startProbe returns once the probe watches. The end of ctx kills it.
func startProbe(ctx context.Context, h *lab.Host, args ...string) (*watcher, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	cmd := h.Command(ctx, append([]string{self, "probe"}, args...)...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe to probe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start probe on %s: %w", h.Name, err)
	}
	w := &watcher{cmd: cmd, out: bufio.NewReader(pipe)}
	if line, err := w.out.ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("probe %v on %s said %q: %w", args, h.Name, line, err), cmd.Wait())
	}
	return w, nil
}

// seen waits for the time that the probe reports.
func (w *watcher) seen() (time.Time, error) {
	line, err := w.out.ReadString('\n')
	if _, more := io.Copy(io.Discard, w.out); more != nil {
		err = errors.Join(err, more)
	}
	if err := errors.Join(err, w.cmd.Wait()); err != nil {
		return time.Time{}, fmt.Errorf("probe %v saw nothing: %w", w.cmd.Args, err)
	}
	ns, err := strconv.ParseInt(line[:len(line)-1], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read time from probe: %w", err)
	}
	return time.Unix(0, ns), nil
}
