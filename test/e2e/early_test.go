package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// TestEarlyDrop has a host deny a stranger by prefix: XDP drops what the stranger
// sends, and nothing that it answers, while an agent runs; without one, policy is
// enforced all the same.
func TestEarlyDrop(t *testing.T) {
	hosts, stranger, _ := newHosts(t, 1)
	h := hosts[0]
	h.init(t)
	lab.Eventually(t, settled, "host is ready", h.ready(t, 0))
	serve(t, h.Host, "5432")
	serve(t, stranger, "5432")
	inward := []string{target("tcp", h.Addr4, 5432), target("udp", h.Addr4, 5432), target("tcp", h.Addr6, 5432), target("udp", h.Addr6, 5432)}
	outward := []string{target("tcp", stranger.Addr4, 5432), target("udp", stranger.Addr6, 5432)}
	expect(t, stranger, echoed, inward...)
	h.do(t, "policy", "apply", "-f", h.write(t, "policy.yaml", clusterwide("blocked", "hub", fmt.Sprintf(`  enableDefaultDeny: {ingress: false}
  ingressDeny:
  - fromCIDR: ["%s/32", "%s/128"]`, stranger.Addr4, stranger.Addr6))))
	lab.Eventually(t, settled, "XDP is attached", h.early(t, 0))
	expect(t, stranger, silence, inward...)
	lab.Eventually(t, settled, "XDP drops", h.early(t, 1))
	expect(t, h.Host, echoed, outward...)
	if err := h.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	if !h.xdp(t) {
		t.Error("XDP was detached with the daemon")
	}
	expect(t, stranger, silence, inward...)
	expect(t, h.Host, echoed, outward...)
	h.start(t)
	lab.Eventually(t, settled, "XDP is taken over", h.early(t, 1))
	before := h.earlyDrop(t).Dropped
	expect(t, stranger, silence, inward...)
	lab.Eventually(t, settled, "XDP drops again", h.early(t, before+1))
	h.do(t, "policy", "delete", "blocked")
	expect(t, stranger, echoed, inward...)
	lab.Eventually(t, settled, "XDP is detached", func() error {
		if h.earlyDrop(t) != nil || h.xdp(t) {
			return errors.New("it is still attached")
		}
		return nil
	})
}

// early reports whether XDP is attached and has dropped that many packets.
func (h *host) early(t *testing.T, dropped uint64) func() error {
	return func() error {
		e := h.earlyDrop(t)
		switch {
		case e == nil || e.Prefixes != 2 || !slices.Equal(e.Interfaces, []string{lab.Device}) || len(e.Without) > 0 || !h.xdp(t):
			return fmt.Errorf("early drop is %+v", e)
		case e.Dropped < dropped || e.Unreported > e.Dropped:
			return fmt.Errorf("%d packets dropped, want %d: %+v", e.Dropped, dropped, e)
		}
		return nil
	}
}

func (h *host) earlyDrop(t *testing.T) *api.EarlyDrop {
	t.Helper()
	st, err := h.client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.Datapath.EarlyDrop
}

// xdp reports whether the driver of the uplink runs a program.
func (h *host) xdp(t *testing.T) bool {
	t.Helper()
	out, err := h.Output(t.Context(), "ip", "-o", "link", "show", "dev", lab.Device)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(out), " xdp ")
}

// TestSourceLimit has a stranger open more flows at once than a host lets it in a
// second, while what the host opens has no limit.
func TestSourceLimit(t *testing.T) {
	hosts, stranger, _ := newHosts(t, 1)
	h := hosts[0]
	if err := h.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.daemon = nil
	h.start(t, "--datapath-source-limit", "1")
	h.init(t)
	lab.Eventually(t, settled, "host is ready", h.ready(t, 0))
	serve(t, h.Host, "5432")
	serve(t, stranger, "5432")
	const many = 12
	for _, a := range []netip.Addr{h.Addr4, h.Addr6} {
		got := probe(t, stranger, slices.Repeat([]string{target("udp", a, 5432)}, many)...)
		if n := len(slices.DeleteFunc(got, func(s string) bool { return s != echoed })); n == 0 || n > many/2 {
			t.Errorf("%d of %d flows to %s were let in", n, many, a)
		}
	}
	for range 3 {
		expect(t, h.Host, echoed, target("udp", stranger.Addr4, 5432), target("tcp", stranger.Addr6, 5432))
	}
	st, err := h.client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.Datapath.SourceLimit != 1 || st.Datapath.EarlyDrop == nil {
		t.Errorf("status has limit %d and early drop %+v", st.Datapath.SourceLimit, st.Datapath.EarlyDrop)
	}
	if flows := h.do(t, "observe", "--last", "1", "--verdict", "DROPPED"); !strings.Contains(flows, "rate limit of its source") {
		t.Errorf("the last drop is %s", flows)
	}
}
