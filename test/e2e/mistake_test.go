package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// TestMistakes makes every mistake that a person or a machine makes before and
// while joining. Each answer names the cause, nothing is half-made, and doing it
// right afterwards works.
//
// A clock that is wrong is tried in control/client, which takes its clock as a
// function: Linux has no real-time clock per namespace, and this machine's own is
// not the test's to set.
func TestMistakes(t *testing.T) {
	hosts, _, _ := newHosts(t, 2)
	m := &pair{server: hosts[0], guest: hosts[1]}
	t.Run("init with bad values", m.testInitValues)
	t.Run("init where something is in the way", m.testInitEnvironment)
	printed := m.server.do(t, initArgs()...)
	t.Run("init and join of a member", m.testTwice)
	t.Run("join with bad values", m.testJoinValues)
	t.Run("join where something is in the way", m.testJoinEnvironment)
	m.guest.do(t, joinLine(t, printed)...)
	for _, h := range hosts {
		lab.Eventually(t, settled, h.Name+" is ready", h.ready(t, 1))
	}
	t.Run("a second daemon", m.testSecondDaemon)
	t.Run("bad configuration", m.testConfiguration)
	t.Run("start where something is in the way", m.testStart)
}

// joinLine finds the ready command line that init prints, without its program.
func joinLine(t *testing.T, printed string) []string {
	t.Helper()
	_, line, _ := strings.Cut(printed, "\n  plexus ")
	words := strings.Fields(line)
	if len(words) != 2 || words[0] != "join" {
		t.Fatalf("init prints %q; want a join command at its end", printed)
	}
	return words
}

type pair struct{ server, guest *host }

func initArgs(args ...string) []string {
	return append([]string{"init", "--cluster-name", "e2e", "--cluster-id", "7"}, args...)
}

func (m *pair) testInitValues(t *testing.T) {
	before := stateFiles(t, m.server)
	for name, tt := range map[string]struct {
		cause string
		args  []string
	}{
		"cluster name":     {"Bad_Name", []string{"init", "--cluster-name", "Bad_Name", "--cluster-id", "7"}},
		"no cluster id":    {"cluster-id", []string{"init", "--cluster-name", "e2e"}},
		"cluster id 0":     {"cluster id 0", []string{"init", "--cluster-name", "e2e", "--cluster-id", "0"}},
		"large cluster id": {"--force-cluster-id", []string{"init", "--cluster-name", "e2e", "--cluster-id", "200"}},
		"no pool":          {"banana", initArgs("--pool4", "banana")},
		"IPv6 pool":        {"fd00::/48", initArgs("--pool4", "fd00::/48")},
		"tiny pool":        {"10.0.0.0/32", initArgs("--pool4", "10.0.0.0/32")},
		"slashes":          {"a/../b", initArgs("--node-name", "a/../b")},
		"no address":       {"host-1", initArgs("--advertise", "host-1")},
		"no label":         {"app", initArgs("--label", "app")},
		"unknown flag":     {"--clustername", []string{"init", "--clustername", "e2e"}},
	} {
		t.Run(name, func(t *testing.T) { m.server.refused(t, exitUsage, []string{tt.cause}, tt.args...) })
	}
	good := api.InitRequest{ClusterName: "e2e", ClusterID: 7}
	for name, spoil := range map[string]func(*api.InitRequest){
		"cluster name": func(r *api.InitRequest) { r.ClusterName = "Bad_Name" },
		"cluster id":   func(r *api.InitRequest) { r.ClusterID = 999 },
		"node name":    func(r *api.InitRequest) { r.NodeName = "a/../b" },
		"pool":         func(r *api.InitRequest) { r.Pool4 = "10.0.0.0/32" },
		"address":      func(r *api.InitRequest) { r.Advertise = []netip.Addr{netip.IPv4Unspecified()} },
		"labels":       func(r *api.InitRequest) { r.Labels = map[string]string{"a b": "c"} },
	} {
		bad := good
		spoil(&bad)
		if j, err := m.server.client().Init(t.Context(), bad); err == nil {
			t.Fatalf("the daemon itself takes a bad %s: %+v", name, j)
		}
	}
	m.server.untouched(t, before)
}

// untouched checks that a host is as unjoined as it was.
func (h *host) untouched(t *testing.T, files []string) {
	t.Helper()
	if diff := cmp.Diff(files, stateFiles(t, h)); diff != "" {
		t.Errorf("state directory of %s (-want +got):\n%s", h.Name, diff)
	}
	h.isClean(t)
	if st, err := h.client().Status(t.Context()); err != nil || st.State != "unjoined" {
		t.Errorf("%s is %s, %v; want unjoined", h.Name, st.State, err)
	}
}

// obstacle is something in the way of a member.
type obstacle struct {
	port  string // occupied, as tcp/7443; "": the BPF file system is gone
	words []string
}

func (o obstacle) name() string {
	if o.port == "" {
		return "no BPF file system"
	}
	return o.port
}

// meet puts the obstacle up for as long as fn runs.
func (o obstacle) meet(t *testing.T, h *host, fn func()) {
	t.Helper()
	if o.port != "" {
		p := launch(t, h.Host, "occupy", o.port)
		fn()
		p.stdin.Close()
		_ = p.cmd.Wait()
		return
	}
	if err := h.Run(t.Context(), "umount", "/sys/fs/bpf"); err != nil {
		t.Fatal(err)
	}
	fn()
	if err := h.Run(t.Context(), "mount", "-t", "bpf", "bpf", "/sys/fs/bpf"); err != nil {
		t.Fatal(err)
	}
}

var (
	noBPF    = obstacle{"", []string{"/sys/fs/bpf", "mount -t bpf"}}
	wgPort   = obstacle{"udp/51871", []string{"51871", "wireguard.port"}}
	apiPort  = obstacle{"tcp/7443", []string{"7443", "in use"}}
	etcdPort = obstacle{"tcp/2379", []string{"2379", "in use"}}
	peerPort = obstacle{"tcp/2380", []string{"2380", "in use"}}
)

func (m *pair) testInitEnvironment(t *testing.T) {
	for _, o := range []obstacle{noBPF, wgPort, apiPort, etcdPort, peerPort} {
		t.Run(o.name(), func(t *testing.T) {
			before := stateFiles(t, m.server)
			o.meet(t, m.server, func() { m.server.refused(t, exitError, o.words, initArgs()...) })
			m.server.untouched(t, before)
		})
	}
}

func (m *pair) testTwice(t *testing.T) {
	token := m.server.token(t)
	before := stored(t, m.server.Host)
	m.server.refused(t, exitError, []string{"host-1", "mesh e2e already", "plexus leave"}, initArgs()...)
	m.server.refused(t, exitError, []string{"host-1", "mesh e2e already", "plexus leave"}, "join", token)
	if diff := cmp.Diff(before, stored(t, m.server.Host)); diff != "" {
		t.Errorf("etcd changed:\n%s", diff)
	}
}

func (m *pair) testJoinValues(t *testing.T) {
	token := m.server.token(t)
	before := stateFiles(t, m.guest)
	for name, tt := range map[string]struct {
		code  int
		cause string
		args  []string
	}{
		"slashes":        {exitUsage, "../host-1", []string{"join", token, "--node-name", "../host-1"}},
		"name in use":    {exitError, "host-1", []string{"join", token, "--node-name", "host-1"}},
		"no address":     {exitUsage, "nowhere", []string{"join", token, "--advertise", "nowhere"}},
		"two tokens":     {exitUsage, "unexpected argument", []string{"join", token, token}},
		"no token":       {exitUsage, "token is missing", []string{"join"}},
		"no token file":  {exitError, "/run/nothing", []string{"join", "--token-file", "/run/nothing"}},
		"unknown daemon": {exitError, "/run/nothing.sock", []string{"join", token, "--socket", "/run/nothing.sock"}},
	} {
		t.Run(name, func(t *testing.T) { m.guest.refused(t, tt.code, []string{tt.cause}, tt.args...) })
	}
	m.guest.untouched(t, before)
}

// testJoinEnvironment also checks that a join which fails costs no token.
func (m *pair) testJoinEnvironment(t *testing.T) {
	token := m.server.token(t)
	before, kept := stateFiles(t, m.guest), stored(t, m.server.Host)
	for _, o := range []obstacle{noBPF, wgPort} {
		t.Run(o.name(), func(t *testing.T) {
			o.meet(t, m.guest, func() { m.guest.refused(t, exitError, o.words, "join", token) })
			m.guest.untouched(t, before)
		})
	}
	if diff := cmp.Diff(kept, stored(t, m.server.Host)); diff != "" {
		t.Errorf("failed joins changed etcd:\n%s", diff)
	}
	if err := m.server.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	m.guest.refused(t, exitError, []string{"192.0.2.1:7443", "connection refused"}, "join", token)
	m.guest.untouched(t, before)
	m.server.start(t)
	lab.Eventually(t, settled, "the server is ready", m.server.ready(t, 0))
}

func (m *pair) testSecondDaemon(t *testing.T) {
	command(t, m.guest.Host, "", built.plexusd).refused(t, exitError, "/var/lib/plexus", "another plexusd")
	command(t, m.guest.Host, "", built.plexusd, "--state-dir", "/run/other").refused(t, exitError, "/run/plexus/plexusd.sock")
	lab.Eventually(t, settled, "the first daemon is well", m.guest.ready(t, 1))
}

func (m *pair) testConfiguration(t *testing.T) {
	path := m.guest.write(t, "plexusd.yaml", "wireguard: {prot: 51871}\n")
	for _, argv := range [][]string{{"config", "check"}, {}, {"cleanup"}} {
		command(t, m.guest.Host, "", append([]string{built.plexusd, "--config", path}, argv...)...).
			refused(t, exitError, path, "unknown keys", "prot")
	}
	command(t, m.guest.Host, "", built.plexusd, "config", "check", "--api-port", "2379").refused(t, exitError, "2379")
	command(t, m.guest.Host, "", built.plexusd, "--no-such-flag").refused(t, exitUsage, "--no-such-flag")
	m.guest.refused(t, exitUsage, []string{"fortify"}, "fortify")
}

// testStart has a server's port taken while its daemon was away. The daemon goes on
// as a host, says so, and serves as soon as it can.
func (m *pair) testStart(t *testing.T) {
	for _, o := range []obstacle{apiPort, etcdPort} {
		t.Run(o.name(), func(t *testing.T) {
			if err := m.server.daemon.Kill(); err != nil {
				t.Fatal(err)
			}
			o.meet(t, m.server, func() {
				m.server.start(t)
				m.server.refused(t, exitError, append([]string{"control plane"}, o.words...), "token", "list")
				if st, err := m.server.client().Status(t.Context()); err != nil || !warns(st, "server-down") {
					t.Errorf("status does not say that the control plane is down: %+v, %v", st.Warnings, err)
				}
			})
			lab.Eventually(t, settled, "the server is ready", m.server.ready(t, 1))
		})
	}
}
