package mesh

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// pace is how often a stream speaks: as often as an emulated processor hears it.
const pace = 50 * time.Millisecond

// stream sends numbers to an echo until its standard input ends, and wants each
// back, once and in order. It says ready once the first is.
func stream(network, addr string) error {
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(over)
	}()
	sent, heard := make(chan uint64, 1), make(chan error, 1)
	go func() { heard <- hear(c, sent) }()
	if err := speak(c, over, sent); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	return <-heard
}

// speak writes numbers from 1 on until over is closed, and tells the last before it
// writes it.
func speak(c net.Conn, over <-chan struct{}, last chan<- uint64) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := uint64(1); ; n++ {
		ended := false
		select {
		case <-over:
			ended = true
			last <- n
		case <-tick.C:
		}
		if _, err := c.Write(binary.BigEndian.AppendUint64(nil, n)); err != nil {
			return fmt.Errorf("send number %d: %w", n, err)
		}
		if ended {
			return nil
		}
	}
}

// hear reads numbers until it has the one that was sent last.
func hear(c net.Conn, sent <-chan uint64) error {
	var last uint64
	b := make([]byte, 8)
	for n := uint64(1); last == 0 || n <= last; n++ {
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("wait for number %d: %w", n, err)
		}
		if got := binary.BigEndian.Uint64(b); got != n {
			return fmt.Errorf("number %d came back in the place of %d", got, n)
		}
		if n == 1 {
			fmt.Println("ready")
		}
		select {
		case last = <-sent:
		default:
		}
	}
	return nil
}

// keepsStreams has streams through the tunnel while fn runs: none may lose anything.
func keepsStreams(t *testing.T, from, to *host, fn func()) {
	t.Helper()
	var ends []func() error
	for _, network := range []string{"tcp", "udp"} {
		for _, a := range []netip.Addr{to.node.MeshIPv4, to.node.MeshIPv6} {
			ends = append(ends, startStream(t, from.Host, network, netip.AddrPortFrom(a, 5432)))
		}
	}
	fn()
	for _, end := range ends {
		if err := end(); err != nil {
			t.Error(err)
		}
	}
}

// startStream returns what ends a stream and says what it has lost.
func startStream(t *testing.T, from *lab.Host, network string, to netip.AddrPort) func() error {
	t.Helper()
	cmd := from.Command(t.Context(), self(t), network, to.String())
	cmd.Env = append(cmd.Env, roleEnv+"=stream")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		_ = in.Close()
		t.Fatalf("stream over %s to %s says %q: %v, %v", network, to, line, err, cmd.Wait())
	}
	return func() error {
		if err := in.Close(); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("stream over %s to %s: %w", network, to, err)
		}
		return nil
	}
}
