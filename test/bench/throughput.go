package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

const (
	throughputTimes = 24 // of each, in turn
	throughputGoal  = 0.97
	runSeconds      = "2"
	tunnelMTU       = "1420" // on a link of 1500, with the headers of WireGuard over IPv6 (80 bytes)
)

// path is two hosts with a tunnel between them.
type path struct {
	from, to *lab.Host
	address  string // of to, in the tunnel
}

// throughput compares the mesh with a tunnel that has no plexusd, no BPF and the
// same WireGuard, on hosts of the same make.
func throughput(ctx context.Context, m *mesh) (_ []result, err error) {
	if err := m.apply(ctx, streamPort); err != nil {
		return nil, err
	}
	s, err := m.status(ctx, m.lab.Hosts[0])
	if err != nil {
		return nil, err
	}
	hand, err := newHand(ctx, s.Datapath.WireGuard == "kernel")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, hand.Close()) }()
	paths := []path{
		{m.lab.Hosts[0], m.lab.Hosts[1], m.mesh4[1]},
		{hand.Hosts[0], hand.Hosts[1], handAddress(1)},
	}
	for _, p := range paths {
		if err := p.serve(ctx); err != nil {
			return nil, err
		}
	}
	rates, err := alternate(ctx, paths)
	if err != nil {
		return nil, err
	}
	mtu, err := os.ReadFile(m.lab.Hosts[0].Path("/sys/class/net/plexus0/mtu"))
	if err != nil {
		return nil, fmt.Errorf("read MTU of the tunnel: %w", err)
	}
	chosen := strings.TrimSpace(string(mtu))
	return append(compare(rates, s.Datapath.WireGuard),
		result{"  MTU of the tunnel, on a link of 1500", tunnelMTU, chosen, when(chosen == tunnelMTU)}), nil
}

func (p path) serve(ctx context.Context) error {
	if _, err := p.to.StartDaemon("/usr/bin/iperf3", "--server", "--port", streamPort); err != nil {
		return err
	}
	return until(ctx, startTime, func() error {
		_, err := p.rate(ctx, "1") // also lets WireGuard shake hands
		return err
	})
}

// alternate measures the paths in turn, and in turn begins with each, so that
// what else the machine does harms them alike.
func alternate(ctx context.Context, paths []path) ([][]float64, error) {
	rates := make([][]float64, len(paths))
	for round := range throughputTimes {
		for turn := range paths {
			i := (round + turn) % len(paths)
			r, err := paths[i].rate(ctx, runSeconds)
			if err != nil {
				return nil, err
			}
			rates[i] = append(rates[i], r)
		}
	}
	return rates, nil
}

// rate is what arrives over one TCP connection, in bits a second.
func (p path) rate(ctx context.Context, seconds string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := p.from.Output(ctx, "iperf3", "--connect-timeout", "1000", "--client", p.address, "--port", streamPort, "--time", seconds, "--json")
	var report struct {
		Error string
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jerr := json.Unmarshal(out, &report); jerr != nil {
		return 0, errors.Join(err, fmt.Errorf("decode report of iperf3: %w", jerr))
	}
	if report.Error != "" || report.End.Received.BitsPerSecond == 0 {
		return 0, fmt.Errorf("run iperf3 to %s: nothing received: %s", p.address, report.Error)
	}
	return report.End.Received.BitsPerSecond, nil
}

func compare(rates [][]float64, kind string) []result {
	ours, hand := spreadOf(rates[0]), spreadOf(rates[1])
	ratios := make([]float64, len(rates[0]))
	for i := range ratios { // each pair ran next to each other: what the machine did meanwhile cancels out
		ratios[i] = rates[0][i] / rates[1][i]
	}
	ratio := spreadOf(ratios).median
	say := func(s spread[float64]) string {
		return fmt.Sprintf("%.0f Mbit/s (%.0f to %.0f, %d times)", s.median/1e6, s.least/1e6, s.most/1e6, throughputTimes)
	}
	return []result{
		{"TCP throughput, mesh to WireGuard by hand", fmt.Sprintf(">= %.2f", throughputGoal), fmt.Sprintf("%.3f", ratio), when(ratio >= throughputGoal)},
		{"  mesh, " + kind + " WireGuard", "", say(ours), noGoal},
		{"  by hand, the same", "", say(hand), noGoal},
	}
}

// newHand makes two hosts with a WireGuard tunnel by ip and wg alone.
func newHand(ctx context.Context, kernel bool) (*lab.Lab, error) {
	l, err := lab.New(lab.Options{Prefix: "bench-hand", Hosts: 2, IPv6: true})
	if err != nil {
		return nil, err
	}
	if err := tunnel(ctx, l, kernel); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func handAddress(i int) string { return fmt.Sprintf("10.99.0.%d", i+1) }

func tunnel(ctx context.Context, l *lab.Lab, kernel bool) error {
	keys := make([]string, len(l.Hosts))
	for i, h := range l.Hosts {
		if err := addDevice(ctx, h, kernel); err != nil {
			return err
		}
		out, err := h.Output(ctx, "sh", "-c", "umask 077; wg genkey >/run/key && wg pubkey </run/key")
		if err != nil {
			return err
		}
		keys[i] = strings.TrimSpace(string(out))
	}
	for i, h := range l.Hosts {
		other := 1 - i
		for _, line := range []string{
			"wg set wg0 listen-port 51871 private-key /run/key peer " + keys[other] +
				" allowed-ips " + handAddress(other) + "/32 endpoint " + l.Hosts[other].Addr4.String() + ":51871",
			"ip addr add " + handAddress(i) + "/24 dev wg0",
			"ip link set wg0 mtu " + tunnelMTU + " up",
		} {
			if err := h.Run(ctx, strings.Fields(line)...); err != nil {
				return err
			}
		}
	}
	return nil
}

func addDevice(ctx context.Context, h *lab.Host, kernel bool) error {
	if kernel {
		return h.Run(ctx, "ip", "link", "add", "wg0", "type", "wireguard")
	}
	helper, err := filepath.Abs(plexusd)
	if err != nil {
		return fmt.Errorf("find %s: %w", plexusd, err)
	}
	// A session of its own, as plexusd gives its helper: the scheduler shares CPUs
	// out by session (sched(7), autogroup), and must do so alike on both sides.
	if _, err := h.StartDaemon("/usr/bin/setsid", "--wait", helper, "wireguard", "--device", "wg0", "--mtu", tunnelMTU, "--pid-file", "/run/wg0.pid"); err != nil {
		return err
	}
	return until(ctx, 5*time.Second, func() error { return h.Run(ctx, "wg", "show", "wg0") })
}
