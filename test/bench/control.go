package main

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	joinTimes  = 7
	applyTimes = 11
	joinGoal   = 2 * time.Second
	applyGoal  = 200 * time.Millisecond
	patience   = 20 * time.Second // for anything that is measured
)

// ports are opened in turn.
var ports = [2]string{"5432", "5433"}

// joins has the third host leave and join again. A join is done when its first
// connection to the server's mesh address stands, on a port that the server's
// policy allows to members alone.
func joins(ctx context.Context, m *mesh) ([]result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.apply(ctx, ports[0]); err != nil {
		return nil, err
	}
	if _, err := startProbe(ctx, m.lab.Hosts[0], "listen", ports[0]); err != nil {
		return nil, err
	}
	var samples []time.Duration
	for range joinTimes {
		took, err := m.rejoin(ctx)
		if err != nil {
			return nil, err
		}
		samples = append(samples, took)
	}
	s, err := m.status(ctx, m.lab.Hosts[2])
	m.mesh4[2] = s.Node.MeshIPv4
	return []result{latency("plexus join to first connection", joinGoal, samples)}, err
}

func (m *mesh) rejoin(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	host := m.lab.Hosts[2]
	if _, err := m.run(ctx, host, "leave"); err != nil {
		return 0, err
	}
	if err := m.awaitSocket(ctx, host); err != nil {
		return 0, err
	}
	token, err := m.token(ctx)
	if err != nil {
		return 0, err
	}
	w, err := startProbe(ctx, host, "open", net.JoinHostPort(m.mesh4[0], ports[0]))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := m.run(ctx, host, "join", token); err != nil {
		return 0, err
	}
	seen, err := w.seen()
	return seen.Sub(start), err
}

// applies opens one port and closes another on all three hosts at once.
func applies(ctx context.Context, m *mesh) ([]result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, h := range m.lab.Hosts {
		if _, err := startProbe(ctx, h, append([]string{"listen"}, ports[:]...)...); err != nil {
			return nil, err
		}
	}
	var opened, closed []time.Duration
	for i := range applyTimes {
		o, c, err := m.switchPort(ctx, ports[(i+1)%2], ports[i%2])
		if err != nil {
			return nil, err
		}
		opened, closed = append(opened, o), append(closed, c)
	}
	return []result{
		latency("policy apply to allowed on all 3 hosts", applyGoal, opened),
		latency("policy apply to denied on all 3 hosts", applyGoal, closed),
	}, nil
}

// switchPort returns how long it took until the last host allowed one port and
// until the last host denied the other.
func (m *mesh) switchPort(ctx context.Context, open, shut string) (opened, closed time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	openers, err := m.watchAll(ctx, "open", open)
	if err != nil {
		return 0, 0, err
	}
	closers, err := m.watchAll(ctx, "closed", shut)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := m.apply(ctx, open); err != nil {
		return 0, 0, err
	}
	opened, oerr := lastOf(openers, start)
	closed, cerr := lastOf(closers, start)
	return opened, closed, errors.Join(oerr, cerr)
}

// watchAll watches each host from the next one.
func (m *mesh) watchAll(ctx context.Context, what, port string) ([]*watcher, error) {
	var all []*watcher
	for i, h := range m.lab.Hosts {
		w, err := startProbe(ctx, h, what, net.JoinHostPort(m.mesh4[(i+1)%len(m.mesh4)], port))
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

func lastOf(all []*watcher, start time.Time) (last time.Duration, err error) {
	for _, w := range all {
		seen, serr := w.seen()
		err = errors.Join(err, serr)
		last = max(last, seen.Sub(start))
	}
	return last, err
}
