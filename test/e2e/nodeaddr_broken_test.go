package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/internal/lab"
)

// TestNodeAddressesBroken breaks web's tunnel in every way. What mends it must go
// on working, nothing may go in plaintext instead, and it must mend itself.
func TestNodeAddressesBroken(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432")
	serve(t, m.server.Host, "5432", "9999")
	m.filterReverse(t, "1")
	for _, tt := range []struct {
		name string
		harm []string
	}{
		{"the device is deleted", []string{"ip", "link", "delete", "plexus0"}},
		{"the device is down", []string{"ip", "link", "set", "plexus0", "down"}},
		{"its key is wrong", []string{"bash", "-c", "wg set plexus0 private-key <(wg genkey)"}},
		{"its peers are gone", []string{"bash", "-c", "for p in $(wg show plexus0 peers); do wg set plexus0 peer $p remove; done"}},
		{"it is a loop", []string{"bash", "-c", "for f in -4 -6; do ip $f rule del pref 7060 fwmark 0x70; done; wg set plexus0 fwmark 0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.led(t)
			if err := m.web.daemon.Kill(); err != nil { // or it would mend this sooner than anybody could look
				t.Fatal(err)
			}
			c, err := m.lab.Capture()
			if err != nil {
				t.Fatal(err)
			}
			m.web.must(t, tt.harm...)
			m.controlReaches(t)
			if tt.name != "it is a loop" { // there the other exemption, by port, holds it up
				m.nodesDoNot(t)
			}
			packets, err := c.Stop()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range packets {
				if why := m.leak(p.Data); why != "" {
					t.Errorf("plaintext on the wire: %s in % x", why, p.Data[:min(len(p.Data), 128)])
				}
			}
			m.web.start(t)
			m.converge(t)
			m.led(t)
			expect(t, m.web.Host, echoed, append(m.db.nodeServices(5432), m.server.nodeServices(5432)...)...)
		})
	}
	t.Run("a running daemon mends its key", m.testMends)
}

// controlReaches opens connections to the server's join API and etcd, from the
// search for its neighbour on.
func (m *trio) controlReaches(t *testing.T) {
	t.Helper()
	m.web.must(t, "ip", "neigh", "flush", "all")
	for _, a := range m.server.nodeAddrs() {
		for _, port := range []string{"7443", "2379"} {
			if err := m.web.Run(t.Context(), "timeout", "5", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s", a, port)); err != nil {
				t.Errorf("the control plane is not reached at %s port %s: %v", a, port, err)
			}
		}
	}
}

// nodesDoNot checks that nothing else gets there, the control plane's host
// included.
func (m *trio) nodesDoNot(t *testing.T) {
	t.Helper()
	targets := append(m.db.nodeServices(5432), m.server.nodeServices(9999)...)
	for i, got := range probe(t, m.web.Host, targets...) {
		if got != silence && !strings.Contains(got, "no route to host") && !strings.Contains(got, "network is unreachable") {
			t.Errorf("%s answers %q without a tunnel", targets[i], got)
		}
	}
}

// testMends breaks the key of a host whose daemon runs: it hears from the control
// plane all the while, and puts the key right.
func (m *trio) testMends(t *testing.T) {
	m.web.must(t, "bash", "-c", "wg set plexus0 private-key <(wg genkey)")
	m.controlReaches(t)
	lab.Eventually(t, 4*settled, "the tunnel works again", func() error {
		st, err := m.web.client().Status(t.Context())
		if err != nil {
			return err
		}
		if warns(st, "etcd-unreachable") {
			t.Error("the control plane was lost with the tunnel")
		}
		if got := probe(t, m.web.Host, target("tcp", m.db.Addr4, 5432)); got[0] != echoed {
			return fmt.Errorf("db answers %s", got[0])
		}
		return nil
	})
}

// TestNodeAddressesLeave: nothing of it is left behind, and the others are
// reached as any stranger is.
func TestNodeAddressesLeave(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432")
	m.led(t)
	if out := ruled(t, m.web); !strings.Contains(out, "proto 158") {
		t.Fatalf("no rule of ours on web:\n%s", out)
	}
	m.web.do(t, "leave")
	if out := ruled(t, m.web); out != "" {
		t.Errorf("left on web:\n%s", out)
	}
	expect(t, m.web.Host, echoed, m.db.nodeServices(5432)...)
	if err := m.db.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := ruled(t, m.db); !strings.Contains(out, "proto 158") {
		t.Error("a daemon that stops takes its rules away")
	}
	if r := command(t, m.db.Host, "", built.plexusd, "cleanup"); r.code != exitOK {
		t.Errorf("cleanup: %+v", r)
	}
	if out := ruled(t, m.db); out != "" {
		t.Errorf("left by cleanup on db:\n%s", out)
	}
}

// ruled returns the rules and routes that carry our mark.
func ruled(t *testing.T, h *host) string {
	t.Helper()
	out, err := h.Output(t.Context(), "bash", "-c", "(ip rule; ip -6 rule; ip route show table all; ip -6 route show table all) | grep 'proto 158' || true")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
