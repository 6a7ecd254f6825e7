package e2e

import (
	"encoding/json"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/internal/lab"
)

// container is what a container engine makes on a host: a bridge, a namespace
// with one address of each family behind NAT, and two published ports.
const container = `
set -e
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip netns add box
ip link add docker0 type bridge
ip link add port0 type veth peer name eth0 netns box
ip link set port0 master docker0
ip link set port0 up
ip link set docker0 up
ip addr add 172.30.0.1/24 dev docker0
ip addr add fd00:30::1/64 dev docker0 nodad
ip -n box addr add 172.30.0.2/24 dev eth0
ip -n box addr add fd00:30::2/64 dev eth0 nodad
ip -n box link set eth0 up
ip -n box link set lo up
ip -n box route add default via 172.30.0.1
ip -n box route add default via fd00:30::1
nft -f - <<'RULES'
table inet published {
	chain prerouting {
		type nat hook prerouting priority dstnat
		meta nfproto ipv4 fib daddr type local tcp dport 8080 dnat ip to 172.30.0.2:80
		meta nfproto ipv6 fib daddr type local tcp dport 8080 dnat ip6 to [fd00:30::2]:80
		meta nfproto ipv4 fib daddr type local tcp dport 8081 dnat ip to 172.30.0.2:81
		meta nfproto ipv6 fib daddr type local tcp dport 8081 dnat ip6 to [fd00:30::2]:81
	}
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr 172.30.0.0/24 oifname != "docker0" masquerade
		ip6 saddr fd00:30::/64 oifname != "docker0" masquerade
	}
}
RULES
`

// policiesOfPage are the policies that docs/forwarding.md shows.
func policiesOfPage(t *testing.T) (published, wayOut string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/forwarding.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/forwarding.md has %d policies; want 2", len(blocks))
	}
	return string(blocks[0][1]), string(blocks[1][1])
}

// launchInside starts this binary in a role in the container.
func launchInside(t *testing.T, h *lab.Host, role string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: h.Command(t.Context(), append([]string{"ip", "netns", "exec", "box", self}, args...)...)}
	p.cmd.Env = append(p.cmd.Env, roleEnv+"="+role)
	p.cmd.Stderr = os.Stderr
	p.begin(t)
	if line, err := p.out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s %v in the container says %q: %v; want ready", role, args, line, err)
	}
	return p
}

// verdictsInside are those on what the container itself begins.
func verdictsInside(t *testing.T, h *lab.Host, open, shut []string) {
	t.Helper()
	p := launchInside(t, h, "probe", append(open[:len(open):len(open)], shut...)...)
	p.stdin.Close()
	var got []string
	if err := json.NewDecoder(p.out).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := append(slices.Repeat([]string{echoed}, len(open)), slices.Repeat([]string{silence}, len(shut))...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("from the container to %v and %v (-want +got):\n%s", open, shut, diff)
	}
}

// both are targets on an IPv4 and an IPv6 address.
func both(a4, a6 netip.Addr, port int) []string {
	return []string{target("tcp", a4, port), target("tcp", a6, port)}
}

// TestForward has daemons govern a container's traffic by the policies that
// docs/forwarding.md shows.
func TestForward(t *testing.T) {
	m := newTrio(t)
	if r := command(t, m.web.Host, "", "sh", "-c", container); r.code != exitOK {
		t.Fatalf("make container: %s", r.stderr)
	}
	launchInside(t, m.web.Host, "serve", "80", "81")
	serve(t, m.stranger, "443", "444")
	serve(t, m.db.Host, "443", "444")
	outside := func(port int) []string { return both(m.web.Addr4, m.web.Addr6, port) }
	inside := func(port int) []string { return both(m.web.mesh4, m.web.mesh6, port) }
	expect(t, m.stranger, echoed, append(outside(8080), outside(8081)...)...) // no policy selects the host
	expect(t, m.db.Host, echoed, append(inside(8080), inside(8081)...)...)
	published, wayOut := policiesOfPage(t)

	t.Run("published ports are judged by their own number", func(t *testing.T) {
		m.apply(t, published)
		verdicts(t, m.stranger, map[string][]string{echoed: outside(8080), silence: outside(8081)})
		verdicts(t, m.db.Host, map[string][]string{echoed: inside(8080), silence: inside(8081)})
		m.delete(t, "published")
	})
	t.Run("the container's own port opens nothing", func(t *testing.T) {
		m.apply(t, clusterwide("inner", "web", "  ingress:\n  - toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]"))
		verdicts(t, m.stranger, map[string][]string{silence: outside(8080)})
		verdicts(t, m.db.Host, map[string][]string{silence: inside(8080)})
		m.delete(t, "inner")
	})
	t.Run("a container's way out is the host's", func(t *testing.T) {
		m.apply(t, wayOut)
		verdictsInside(t, m.web.Host,
			append(both(m.stranger.Addr4, m.stranger.Addr6, 443), both(m.db.mesh4, m.db.mesh6, 443)...),
			append(both(m.stranger.Addr4, m.stranger.Addr6, 444), both(m.db.mesh4, m.db.mesh6, 444)...))
		verdicts(t, m.stranger, map[string][]string{echoed: outside(8080)}) // its answers need no rule
		m.delete(t, "way-out")
	})
}
