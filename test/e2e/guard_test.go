package e2e

import (
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// testGuard takes tunnel, routes and daemon away from web, and sends to mesh
// addresses by a route over the underlay: the guard in the kernel must stop it.
func (m *trio) testGuard(t *testing.T) {
	if err := m.web.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	c, err := m.lab.Capture()
	if err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"ip", "link", "delete", "plexus0"},
		{"ip", "-4", "route", "replace", m.db.mesh4.String(), "via", m.db.Addr4.String(), "dev", lab.Device},
		{"ip", "-6", "route", "replace", m.db.mesh6.String(), "via", m.db.Addr6.String(), "dev", lab.Device},
	} {
		if err := m.web.Run(t.Context(), argv...); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, m.web.Host, silence, target("tcp", m.db.mesh4, 5432), target("udp", m.db.mesh6, 5432))
	packets, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if why := m.plaintext(p.Data); why != "" {
			t.Errorf("plaintext on the wire: %s in % x", why, p.Data[:min(len(p.Data), 128)])
		}
	}
	m.repair(t)
	if m.web.counted(t, "egress", "plaintext to a mesh address") < 2 {
		t.Error("the guard counts no packet: it was not tried")
	}
}

func (m *trio) repair(t *testing.T) {
	t.Helper()
	m.web.start(t)
	for _, argv := range [][]string{
		{"ip", "-4", "route", "delete", m.db.mesh4.String(), "dev", lab.Device},
		{"ip", "-6", "route", "delete", m.db.mesh6.String(), "dev", lab.Device},
	} {
		if err := m.web.Run(t.Context(), argv...); err != nil {
			t.Error(err)
		}
	}
	m.converge(t)
	expect(t, m.web.Host, echoed, target("tcp", m.db.mesh4, 5432), target("udp", m.db.mesh6, 5432))
	if st := ask[api.Status](t, m.web, "status"); st.State != "ready" {
		t.Errorf("web is %s after its tunnel was made again", st.State)
	}
}

// testSpoof has a stranger send from web's mesh addresses on the underlay.
func (m *trio) testSpoof(t *testing.T) {
	const reason = "mesh address outside the tunnel"
	before := m.db.counted(t, "ingress", reason)
	for _, argv := range [][]string{
		{"ip", "addr", "add", m.web.mesh4.String() + "/32", "dev", lab.Device},
		{"ip", "addr", "add", m.web.mesh6.String() + "/128", "dev", lab.Device, "nodad"},
		{"ip", "-4", "route", "add", m.db.mesh4.String(), "via", m.db.Addr4.String(), "src", m.web.mesh4.String()},
		{"ip", "-6", "route", "add", m.db.mesh6.String(), "via", m.db.Addr6.String(), "src", m.web.mesh6.String()},
	} {
		if err := m.stranger.Run(t.Context(), argv...); err != nil {
			t.Fatal(err)
		}
	}
	verdicts(t, m.stranger, map[string][]string{silence: {target("udp", m.db.mesh4, 5432), target("udp", m.db.mesh6, 5432)}})
	if after := m.db.counted(t, "ingress", reason); after < before+2 {
		t.Errorf("%d packets are counted as spoofed, after %d before; want 2 more", after, before)
	}
}

// counted is how many packets the host dropped on the underlay for that reason.
func (h *host) counted(t *testing.T, direction, reason string) (n uint64) {
	t.Helper()
	for _, c := range ask[[]api.CounterEntry](t, h, "bpf", "metrics", "list") {
		if c.Reason == reason && c.Interface == "uplink" && c.Direction == direction {
			n += c.Packets
		}
	}
	return n
}
