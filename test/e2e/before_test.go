package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/plexusmesh/plexus/internal/lab"
)

// busy lets the stranger open at 7000 and the 99 after it, and db at 6010 of the
// stranger and the 89 after it.
const busy = `  ingress:
  - fromCIDR: [%[1]s/32, "%[2]s/128"]
    toPorts: [{ports: [{port: "7000", endPort: 7099}]}]
  egress:
  - toCIDR: [%[1]s/32, "%[2]s/128"]
    toPorts: [{ports: [{port: "6010", endPort: 6099}]}]`

// TestBefore makes a host a member that is busy already, and that policy closes
// from its first moment on. Of the connections that it has, those go on that
// policy would let be opened, whichever side speaks next; the others are cut.
func TestBefore(t *testing.T) {
	hosts, stranger, l := newHosts(t, 2)
	m := &trio{lab: l, server: hosts[0], web: hosts[0], db: hosts[1], stranger: stranger}
	m.server.init(t)
	serve(t, stranger, "6001")
	serve(t, m.db.Host, "5432", "7050")
	allowed := append(m.allowedBefore(t), m.contained(t))
	served, denied := m.datagramsBefore(t), m.deniedBefore(t)
	m.server.do(t, "policy", "apply", "--allow-empty", "-f",
		m.server.write(t, "policy.yaml", clusterwide("busy", "db", fmt.Sprintf(busy, stranger.Addr4, stranger.Addr6))))
	m.db.join(t, m.server.token(t, "--label", "app=db"))
	lab.Eventually(t, settled, "policy is enforced", m.db.ready(t, 1))
	verdicts(t, stranger, map[string][]string{
		silence: {target("tcp", m.db.Addr4, 5432), target("udp", m.db.Addr6, 5432)},
		echoed:  {target("tcp", m.db.Addr4, 7050), target("udp", m.db.Addr6, 7050)},
	})
	for _, f := range allowed {
		f.end(t)
	}
	for to, s := range served {
		if r := s.finish(t); len(r.Missing) > 1 || r.Disordered > 0 || r.Err != "" { // an answer alone may be taken for a flow of its own
			t.Errorf("datagrams to %s, which others opened and policy allows: %+v", to, r)
		}
	}
	for _, s := range denied {
		s.stdin.Close()
	}
	for to, s := range denied {
		if r := s.finish(t); len(r.Missing) == 0 {
			t.Errorf("flow to %s, which policy denies, went on: %+v", to, r)
		}
	}
}

// allowedBefore are connections that policy allows, with both sides speaking: by
// TCP opened from either side, by UDP opened by db, whose socket knows with whom.
func (m *trio) allowedBefore(t *testing.T) []duplex {
	t.Helper()
	var out []duplex
	for i, a := range [][2]netip.Addr{{m.db.Addr4, m.stranger.Addr4}, {m.db.Addr6, m.stranger.Addr6}} {
		port := func(base int) uint16 { return uint16(base + 10 + i) }
		out = append(out,
			pour(t, "tcp", m.db.Host, m.stranger, [2]netip.AddrPort{netip.AddrPortFrom(a[0], port(activePorts)), netip.AddrPortFrom(a[1], port(6000))}),
			pour(t, "udp", m.db.Host, m.stranger, [2]netip.AddrPort{netip.AddrPortFrom(a[0], port(activePorts)), netip.AddrPortFrom(a[1], port(6000))}),
			pour(t, "tcp", m.stranger, m.db.Host, [2]netip.AddrPort{netip.AddrPortFrom(a[1], port(activePorts)), netip.AddrPortFrom(a[0], port(7000))}))
	}
	return out
}

// behind makes a container of a host, which masquerades it.
const behind = `
set -e
ip netns add inner
ip link add inner0 type bridge
ip link add port0 type veth peer name eth0 netns inner
ip link set port0 master inner0
ip addr add 172.30.0.1/24 dev inner0
ip link set inner0 up
ip link set port0 up
ip -n inner addr add 172.30.0.2/24 dev eth0
ip -n inner link set eth0 up
ip -n inner route add default via 172.30.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
nft add table ip nat
nft add chain ip nat post '{ type nat hook postrouting priority srcnat; }'
nft add rule ip nat post ip saddr 172.30.0.0/24 oifname eth0 masquerade
`

// contained is a connection that a container of db has opened to the stranger. No
// socket of db tells of it.
func (m *trio) contained(t *testing.T) duplex {
	t.Helper()
	if err := m.db.Run(t.Context(), "sh", "-c", behind); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	local, remote := "172.30.0.2:17020", netip.AddrPortFrom(m.stranger.Addr4, 6020).String()
	d := duplex{name: "tcp from a container of db", listen: launch(t, m.stranger, "listen", "tcp", remote, local)}
	d.active = &program{cmd: m.db.Command(t.Context(), "ip", "netns", "exec", "inner", self, "tcp", local, remote)}
	d.active.cmd.Env = append(d.active.cmd.Env, roleEnv+"=pour")
	d.active.cmd.Stderr = os.Stderr
	d.active.begin(t)
	if line, err := d.active.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the container says %q: %v; want ready", line, err)
	}
	return d
}

// datagramsBefore are flows to a socket of db that takes whoever comes.
func (m *trio) datagramsBefore(t *testing.T) map[string]*program {
	t.Helper()
	out := map[string]*program{}
	for _, a := range []netip.Addr{m.db.Addr4, m.db.Addr6} {
		out[target("udp", a, 7050)] = stream(t, m.stranger, target("udp", a, 7050))
	}
	return out
}

// deniedBefore are flows of both sides that policy denies.
func (m *trio) deniedBefore(t *testing.T) map[string]*program {
	t.Helper()
	out := map[string]*program{}
	for _, network := range []string{"tcp", "udp"} {
		for _, a := range []netip.Addr{m.db.Addr4, m.db.Addr6} {
			out[target(network, a, 5432)] = stream(t, m.stranger, target(network, a, 5432))
		}
		for _, a := range []netip.Addr{m.stranger.Addr4, m.stranger.Addr6} {
			out[target(network, a, 6001)] = stream(t, m.db.Host, target(network, a, 6001))
		}
	}
	return out
}
