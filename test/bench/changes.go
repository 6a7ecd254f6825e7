package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

const (
	changeTimes = 1000
	changeGoal  = 150 * time.Millisecond // at the 99th percentile
	streamRate  = "20M"                  // bits a second, of the flow that goes on meanwhile
	streamPort  = "5201"
)

// changes has one policy changed a thousand times, opening one UDP port and
// closing another on all three hosts, while datagrams to both and a TCP
// connection on a third port flow.
func changes(ctx context.Context, m *mesh) ([]result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.change(ctx, ports[0]); err != nil {
		return nil, err
	}
	watchers, err := m.watchFlips(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.stream(ctx); err != nil {
		return nil, err
	}
	var samples []time.Duration
	for i := range changeTimes + 1 {
		late := time.AfterFunc(patience, cancel) // ends the probes, which are waited for
		took, err := m.timeChange(ctx, watchers, ports[i%2])
		late.Stop()
		if err != nil {
			return nil, err
		}
		if i > 0 { // before the first, watchers may not have seen a port yet
			samples = append(samples, took)
		}
	}
	return []result{percentiles("policy apply to enforced on all 3 hosts, 99 of 100", changeGoal, samples)}, nil
}

// watchFlips has each host watch the next one.
func (m *mesh) watchFlips(ctx context.Context) ([]*watcher, error) {
	var all []*watcher
	for _, h := range m.lab.Hosts {
		if _, err := startProbe(ctx, h, append([]string{"echo"}, ports[:]...)...); err != nil {
			return nil, err
		}
	}
	for i, h := range m.lab.Hosts {
		args := append([]string{"flips", m.mesh4[(i+1)%len(m.mesh4)]}, ports[:]...)
		w, err := startProbe(ctx, h, args...)
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// stream keeps a TCP connection busy until ctx ends.
func (m *mesh) stream(ctx context.Context) error {
	from, to := m.lab.Hosts[1], m.lab.Hosts[2]
	if _, err := to.StartDaemon("/usr/bin/iperf3", "--server", "--port", streamPort); err != nil {
		return err
	}
	address := net.JoinHostPort(m.mesh4[2], streamPort)
	err := until(ctx, startTime, func() error { _, err := try(ctx, address); return err })
	if err != nil {
		return err
	}
	return start(ctx, from, "iperf3", "--client", m.mesh4[2], "--port", streamPort, "--time", "0", "--bitrate", streamRate)
}

// start runs argv on h until ctx ends.
func start(ctx context.Context, h *lab.Host, argv ...string) error {
	cmd := h.Command(ctx, argv...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s on %s: %w", argv[0], h.Name, err)
	}
	go func() { _ = cmd.Wait() }() // killed with ctx
	return nil
}

// change has the mesh allow one UDP port into every host, and the stream's.
func (m *mesh) change(ctx context.Context, port string) error {
	return m.applyText(ctx, fmt.Sprintf(changeForm, port, streamPort))
}

const changeForm = `
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: bench}
spec:
  endpointSelector: {matchLabels: {app: bench}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: bench}
    toPorts:
    - ports:
      - {port: "%s", protocol: UDP}
      - {port: "%s", protocol: TCP}
`

// timeChange returns how long it took from the start of the command until the
// last host let the first datagram to the port in.
func (m *mesh) timeChange(ctx context.Context, watchers []*watcher, port string) (took time.Duration, err error) {
	begin := time.Now()
	if err := m.change(ctx, port); err != nil {
		return 0, err
	}
	for _, w := range watchers {
		f, ferr := w.flip()
		for ferr == nil && f.port != port { // seen before the first policy was enforced
			f, ferr = w.flip()
		}
		err = errors.Join(err, ferr)
		took = max(took, f.sent.Sub(begin))
	}
	return took, err
}

// flip waits for the next line of a flips probe.
func (w *watcher) flip() (f flip, err error) {
	var ns int64
	line, err := w.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &f.port, &ns)
	}
	if err != nil {
		return flip{}, fmt.Errorf("read flip %q: %w", line, err)
	}
	f.sent = time.Unix(0, ns)
	return f, nil
}

// percentiles is a line about times of which the 99th percentile counts.
func percentiles(what string, target time.Duration, samples []time.Duration) result {
	s := slices.Sorted(slices.Values(samples))
	at := func(p int) time.Duration { return s[min(len(s)-1, len(s)*p/100)].Round(time.Millisecond) }
	return result{
		What: what, Target: fmt.Sprintf("< %v", target), Met: when(at(99) < target),
		Measured: fmt.Sprintf("%v (median %v, at most %v, %d times)", at(99), at(50), at(100), len(s)),
	}
}
