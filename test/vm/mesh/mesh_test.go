package mesh

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// webToDB lets one port of one host be reached by the other, and nothing else.
const webToDB = `apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: web-to-db}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "5432", protocol: TCP}, {port: "5432", protocol: UDP}]}]
`

// TestTwoHosts makes a mesh of two hosts by the command line and watches the wire
// between them.
func TestTwoHosts(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Prefix: "vm-mesh", Hosts: 3, IPv6: true})
	db, web, stranger := start(t, l.Hosts[0]), start(t, l.Hosts[1]), l.Hosts[2]
	db.enter(t, "init", "--cluster-name", "vm", "--cluster-id", "7", "--label", "app=db")
	web.enter(t, "join", "--token-file", web.write(t, "token", db.plexus(t, "token", "create", "--label", "app=web")))
	for _, h := range []*host{db, web} {
		checkKernel(t, h)
	}
	serve(t, db.Host, "5432", "5433")
	for _, a := range []netip.Addr{db.node.MeshIPv4, db.node.MeshIPv6} {
		for _, port := range []uint16{5432, 5433} {
			lab.Eventually(t, soon, "traffic without policy", func() error { return talk(t, web.Host, "ask", netip.AddrPortFrom(a, port)) })
		}
	}
	apply(t, db, web)
	frames := record(t, l, func() { judged(t, db, web) })
	checkEncrypted(t, frames, db, web)
	keepsStreams(t, web, db, func() { restarted(t, db, web) })
	checkWatcher(t, record(t, l, func() {
		if err := talk(t, stranger, "tell", netip.AddrPortFrom(db.Addr4, 5432)); err != nil {
			t.Error(err)
		}
	}))
}

// restarted has one daemon crash and the other stop, and both come back.
func restarted(t *testing.T, crashed, stopped *host) {
	t.Helper()
	if err := errors.Join(crashed.daemon.Kill(), crashed.daemon.Start()); err != nil {
		t.Fatal(err)
	}
	crashed.ready(t, 1)
	if err := stopped.daemon.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped.ready(t, 1)
}

// checkKernel wants a tunnel that the kernel itself makes.
func checkKernel(t *testing.T, h *host) {
	t.Helper()
	if st := h.ready(t, 1); st.Datapath.WireGuard != "kernel" {
		t.Errorf("%s has WireGuard of the kind %q, want the kernel's", h.Name, st.Datapath.WireGuard)
	}
	if out := h.run(t, "ip", "-details", "link", "show", "dev", "plexus0"); !strings.Contains(out, "\n    wireguard ") {
		t.Errorf("plexus0 on %s is not the kernel's WireGuard:\n%s", h.Name, out)
	}
}

func apply(t *testing.T, server *host, others ...*host) {
	t.Helper()
	var r api.ApplyResult
	if err := json.Unmarshal([]byte(server.plexus(t, "policy", "apply", "-f", server.write(t, "policy.yaml", webToDB), "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	for _, h := range append(others, server) {
		h.enforces(t, r.Revision)
	}
}

// judged has the allowed port answer and the other one silent, in both families.
func judged(t *testing.T, db, web *host) {
	t.Helper()
	for _, a := range []netip.Addr{db.node.MeshIPv4, db.node.MeshIPv6} {
		lab.Eventually(t, soon, "allowed traffic", func() error { return talk(t, web.Host, "ask", netip.AddrPortFrom(a, 5432)) })
		before := db.drops(t, "policy denied")
		if err := talk(t, web.Host, "ask", netip.AddrPortFrom(a, 5433)); err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("traffic to %s that no rule allows: %v, want silence", a, err)
		}
		if after := db.drops(t, "policy denied"); after == before {
			t.Errorf("traffic to %s was not dropped by policy", a)
		}
	}
}

// record returns every frame that crosses the underlay during fn.
func record(t *testing.T, l *lab.Lab, fn func()) []lab.Packet {
	t.Helper()
	c, err := l.Capture()
	if err != nil {
		t.Fatal(err)
	}
	fn()
	frames, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

// checkEncrypted wants the traffic to have crossed as WireGuard's data messages,
// and neither its payload nor a mesh address to be readable anywhere.
func checkEncrypted(t *testing.T, frames []lab.Packet, hosts ...*host) {
	t.Helper()
	data := 0
	for _, f := range frames {
		if isData(f.Data) {
			data++
		}
		secrets := [][]byte{[]byte(mark)}
		for _, h := range hosts {
			secrets = append(secrets, h.node.MeshIPv4.AsSlice(), h.node.MeshIPv6.AsSlice())
		}
		for _, s := range secrets {
			if !isData(f.Data) && bytes.Contains(f.Data, s) || bytes.Contains(f.Data, []byte(mark)) {
				t.Errorf("% x is readable in % x", s, f.Data[:min(len(f.Data), 128)])
			}
		}
	}
	const least = 80 // 20 messages and their echoes, in two families
	if data < least {
		t.Errorf("%d of %d frames are WireGuard data, want the traffic: %d", data, len(frames), least)
	}
}

// isData knows WireGuard's transport data message by its port and type, in IPv4
// and IPv6 without options.
func isData(frame []byte) bool {
	for _, udp := range []int{14 + 20, 14 + 40} {
		if len(frame) >= udp+12 && binary.BigEndian.Uint16(frame[udp:]) == 51871 && binary.BigEndian.Uint16(frame[udp+2:]) == 51871 {
			return binary.LittleEndian.Uint32(frame[udp+8:]) == 4
		}
	}
	return false
}

// checkWatcher shows that a record has what is not encrypted.
func checkWatcher(t *testing.T, frames []lab.Packet) {
	t.Helper()
	if !slices.ContainsFunc(frames, func(f lab.Packet) bool { return bytes.Contains(f.Data, []byte(mark)) }) {
		t.Errorf("none of %d frames shows what a stranger said in plaintext", len(frames))
	}
}
