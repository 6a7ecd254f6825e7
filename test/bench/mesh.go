package main

import (
	"bytes"
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

// Programs under measurement, built by make.
const (
	plexusd = "bin/plexusd"
	plexus  = "bin/plexus"
)

// startTime bounds how long anything may take to come up.
const startTime = 30 * time.Second

// mesh is three hosts in a mesh: the first is the server.
type mesh struct {
	lab     *lab.Lab
	plexus  string // absolute path of the command
	daemons []*lab.Daemon
	mesh4   []string // mesh address by host
}

// status is what is read of plexus status.
type status struct {
	Node     struct{ MeshIPv4 string }
	Datapath struct{ WireGuard string }
}

func newMesh(ctx context.Context) (*mesh, error) {
	command, err := filepath.Abs(plexus)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", plexus, err)
	}
	l, err := lab.New(lab.Options{Prefix: "bench", Hosts: 3, IPv6: true})
	if err != nil {
		return nil, err
	}
	m := &mesh{lab: l, plexus: command}
	if err := m.form(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return m, nil
}

func (m *mesh) form(ctx context.Context) error {
	for _, h := range m.lab.Hosts {
		d, err := h.StartDaemon(plexusd)
		if err != nil {
			return err
		}
		m.daemons = append(m.daemons, d)
	}
	for i, h := range m.lab.Hosts {
		if err := m.awaitSocket(ctx, h); err != nil {
			return err
		}
		var err error
		if i == 0 {
			_, err = m.run(ctx, h, "init", "--cluster-name", "bench", "--cluster-id", "7", "--label", "app=bench")
		} else {
			err = m.join(ctx, h)
		}
		if err != nil {
			return err
		}
		s, err := m.status(ctx, h)
		if err != nil {
			return err
		}
		m.mesh4 = append(m.mesh4, s.Node.MeshIPv4)
	}
	return nil
}

func (m *mesh) awaitSocket(ctx context.Context, h *lab.Host) error {
	return until(ctx, startTime, func() error {
		_, err := os.Stat(h.Path("/run/plexus/plexusd.sock"))
		return err
	})
}

func (m *mesh) join(ctx context.Context, h *lab.Host) error {
	token, err := m.token(ctx)
	if err != nil {
		return err
	}
	_, err = m.run(ctx, h, "join", token)
	return err
}

func (m *mesh) token(ctx context.Context) (string, error) {
	out, err := m.run(ctx, m.lab.Hosts[0], "token", "create", "--label", "app=bench")
	return strings.TrimSpace(string(out)), err
}

func (m *mesh) run(ctx context.Context, h *lab.Host, args ...string) ([]byte, error) {
	return h.Output(ctx, append([]string{m.plexus}, args...)...)
}

// status waits until the host is ready.
func (m *mesh) status(ctx context.Context, h *lab.Host) (status, error) {
	var s status
	out, err := m.run(ctx, h, "status", "--wait", "-o", "json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("decode status of %s: %w", h.Name, err)
	}
	return s, nil
}

// apply has the mesh allow one TCP port into every host, and no other.
func (m *mesh) apply(ctx context.Context, port string) error {
	return m.applyText(ctx, fmt.Sprintf(policyForm, port))
}

func (m *mesh) applyText(ctx context.Context, policy string) error {
	cmd := m.lab.Hosts[0].Command(ctx, m.plexus, "policy", "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(policy)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply policy: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

const policyForm = `
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
      - {port: "%s", protocol: TCP}
`

// until polls ok until it returns nil, and returns its last error when the time
// is over.
func until(ctx context.Context, within time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
