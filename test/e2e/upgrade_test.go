package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// fenced lets web and db pour into each other, and both with the stranger, and
// lets nothing else into db or out of it.
func (m *releases) fenced() string {
	peers := func(side, app string) string {
		return fmt.Sprintf(`
  - %[1]sEndpoints: [{matchLabels: {app: %[2]s}}]
    toPorts: [{ports: [{port: "%[3]d", endPort: %[4]d}]}]
  - %[1]sCIDR: [%[5]s/32, "%[6]s/128"]
    toPorts: [{ports: [{port: "%[3]d", endPort: %[4]d}]}]`, side, app, pourPorts, pourPorts+99, m.stranger.Addr4, m.stranger.Addr6)
	}
	return clusterwide("fenced", "db", "  ingress:"+peers("from", "web")+"\n  egress:"+peers("to", "web"))
}

// TestUpgrade stops, kills, upgrades and downgrades every daemon in turn while
// numbers pour both ways through the tunnel and past it, and while others try to
// get in and out where policy lets nobody.
func TestUpgrade(t *testing.T) {
	programs, layout := buildWith(t, otherPrograms), buildWith(t, otherLayout)
	m := newReleases(t)
	t.Run("the intruders would be noticed", m.testIntrudersWork)
	m.settle(t)
	m.apply(t, m.fenced())
	flows := m.pourEverywhere(t)
	intruders := m.intruders(t)
	for _, step := range []struct {
		what  string
		build string
		end   func(*host, *testing.T)
	}{
		{"stopped and started", built.plexusd, (*host).stop},
		{"killed and started", built.plexusd, (*host).crash},
		{"upgraded to other programs", programs, (*host).stop},
		{"downgraded", built.plexusd, (*host).stop},
		{"upgraded to another layout of maps by a crash", layout, (*host).crash},
		{"downgraded to the former layout", built.plexusd, (*host).stop},
	} {
		began := time.Now()
		m.roll(t, step.build, step.end)
		t.Logf("%s: every host was %s within %v", time.Now().Format(clock), step.what, time.Since(began).Round(time.Millisecond))
	}
	for _, f := range flows {
		f.end(t)
	}
	for _, i := range intruders {
		if tried, through := i.end(t); tried < 1000 || len(through) > 0 {
			t.Errorf("%s: of %d flows to each target came through: %v; want many tries and none through", i.name, tried, through)
		}
	}
}

// releases is a mesh whose daemons are replaced, with two strangers.
type releases struct {
	*trio
	other *lab.Host
	paths map[*host]string  // of each plexusd
	tags  map[string]string // of the programs that a build loads
}

// newReleases is a trio whose daemons run from a path that a later release can be
// put at, as a package would.
func newReleases(t *testing.T) *releases {
	t.Helper()
	l := lab.ForTest(t, lab.Options{Prefix: labPrefix(t), Hosts: 5, IPv6: true})
	dir := t.TempDir()
	m := &releases{other: l.Hosts[4], paths: map[*host]string{}, tags: map[string]string{}}
	var hosts []*host
	for _, h := range l.Hosts[:3] {
		own := filepath.Join(dir, h.Name, "plexusd")
		if err := os.Mkdir(filepath.Dir(own), 0o755); err != nil {
			t.Fatal(err)
		}
		install(t, built.plexusd, own)
		d, err := h.StartDaemon(own)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, &host{Host: h, daemon: d})
		m.paths[hosts[len(hosts)-1]] = own
		lab.Eventually(t, settled, h.Name+" answers", func() error {
			_, err := hosts[len(hosts)-1].client().Status(t.Context())
			return err
		})
	}
	m.trio = &trio{lab: l, server: hosts[0], web: hosts[1], db: hosts[2], stranger: l.Hosts[3]}
	m.server.init(t)
	m.web.join(t, m.server.token(t, "--label", "app=web"))
	m.db.join(t, m.server.token(t, "--label", "app=db"))
	m.converge(t)
	return m
}

// patient are settings with which no answer is too late, and every segment that
// is sent again was lost: no timer that is shorter than a moment in which the
// daemons that start here keep a reader from a processor. Some are younger than
// others.
var patient = map[string]string{
	"/proc/sys/net/ipv4/tcp_early_retrans": "0",       // no probe for the end of a burst
	"/proc/sys/net/ipv4/tcp_rto_min_us":    "5000000", // from 6.11
}

// settle makes the hosts patient, and gives the queue before a WireGuard process
// room for seconds, as the 500 packets that the kernel gives it last for less.
func (m *releases) settle(t *testing.T) {
	t.Helper()
	for _, h := range m.lab.Hosts {
		for setting, value := range patient {
			if err := h.Run(t.Context(), "sh", "-c", "[ ! -e "+setting+" ] || echo "+value+" >"+setting); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, h := range m.hosts() {
		if err := h.Run(t.Context(), "ip", "link", "set", "plexus0", "txqueuelen", "10000"); err != nil {
			t.Fatal(err)
		}
	}
}

// install puts a build in the place of another in one step.
func install(t *testing.T, build, path string) {
	t.Helper()
	data, err := os.ReadFile(build)
	if err == nil {
		err = os.WriteFile(path+".new", data, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) stop(t *testing.T) {
	t.Helper()
	if err := h.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (h *host) crash(t *testing.T) {
	t.Helper()
	if err := h.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
}

// roll ends each daemon in turn and starts the build in its place. The programs
// that the new one loaded must be its own.
func (m *releases) roll(t *testing.T, build string, end func(*host, *testing.T)) {
	t.Helper()
	for _, h := range m.hosts() {
		end(h, t)
		install(t, build, m.paths[h])
		h.start(t)
		m.converge(t)
		t.Logf("%s: %s is ready again", time.Now().Format(clock), h.Name)
	}
	if tags := m.web.programTags(t); m.tags[build] == "" {
		for other, had := range m.tags {
			if had == tags {
				t.Errorf("%s loads the same programs as %s", build, other)
			}
		}
		m.tags[build] = tags
	} else if m.tags[build] != tags {
		t.Errorf("%s loads programs %s; it loaded %s before", build, tags, m.tags[build])
	}
}

// programTags are digests of the programs that the daemon has loaded, which the
// kernel makes of their instructions.
func (h *host) programTags(t *testing.T) string {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", h.daemon.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, path := range infos {
		text, _ := os.ReadFile(path) // some are gone by now
		if _, after, ok := strings.Cut(string(text), "prog_tag:"); ok {
			tags = append(tags, strings.Fields(after)[0])
		}
	}
	if len(tags) == 0 {
		t.Fatalf("plexusd on %s holds no program", h.Name)
	}
	slices.Sort(tags)
	return strings.Join(slices.Compact(tags), " ")
}

// pourEverywhere opens flows through the tunnel and past it, and one between two
// strangers, which shows what the machine itself loses.
func (m *releases) pourEverywhere(t *testing.T) []duplex {
	t.Helper()
	return slices.Concat(
		pourFlows(t, 0, m.web.Host, m.db.Host, [][2]netip.Addr{{m.web.mesh4, m.db.mesh4}, {m.web.mesh6, m.db.mesh6}}),
		pourFlows(t, 20, m.stranger, m.db.Host, [][2]netip.Addr{{m.stranger.Addr4, m.db.Addr4}, {m.stranger.Addr6, m.db.Addr6}}),
		pourFlows(t, 40, m.stranger, m.other, [][2]netip.Addr{{m.stranger.Addr4, m.other.Addr4}, {m.stranger.Addr6, m.other.Addr6}}),
	)
}

// intruders try what fenced denies: into db past the tunnel and through it, and
// out of db.
func (m *releases) intruders(t *testing.T) []intruder {
	t.Helper()
	return []intruder{
		newIntruder(t, m.stranger, m.db.Host, 6661, m.db.Addr4, m.db.Addr6),
		newIntruder(t, m.server.Host, m.db.Host, 6662, m.db.mesh4, m.db.mesh6),
		newIntruder(t, m.db.Host, m.web.Host, 6663, m.web.mesh4, m.web.mesh6),
		newIntruder(t, m.db.Host, m.stranger, 6664, m.stranger.Addr4, m.stranger.Addr6),
	}
}

// testIntrudersWork has them come through everywhere while nothing forbids it.
func (m *releases) testIntrudersWork(t *testing.T) {
	for _, i := range m.intruders(t) {
		if tried, through := i.end(t); len(through) != 4 {
			t.Errorf("%s: of %d flows to each target came through: %v; want some to all four", i.name, tried, through)
		}
	}
}
