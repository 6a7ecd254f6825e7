package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// onlyPostgres closes db but for one port, for everybody.
var onlyPostgres = clusterwide("boot", "db", `  ingress: [{fromEntities: [all], toPorts: [{ports: [{port: "5432", protocol: ANY}]}]}]`)

// TestBootGuard reboots a host whose mesh is gone: no daemon and no server runs
// anywhere. All that it has is its disk.
func TestBootGuard(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432", "5433")
	m.apply(t, onlyPostgres)
	m.saved(t)
	kill(t, m.server)
	kill(t, m.web)
	t.Run("without the guard, a host that boots is open", m.testUnguarded)
	t.Run("with it, no packet is let through that policy denies", m.testGuarded)
	t.Run("beside a running daemon it does nothing", m.testGuardBeside)
	t.Run("an interface that comes late is waited for", m.testLate)
	t.Run("one that never comes is not waited for for ever", m.testMissing)
	t.Run("a damaged snapshot", m.testDamagedSnapshot)
	t.Run("no BPF file system", m.testNoBPFFS)
	t.Run("a kernel without BPF", m.testNoBPF)
	t.Run("a host that has not joined is left alone", m.testUnjoined)
}

// saved waits until db has on its disk what it enforces.
func (m *trio) saved(t *testing.T) {
	t.Helper()
	lab.Eventually(t, settled, "the policy is on disk", func() error {
		facts, err := os.ReadFile(m.db.Path("/var/lib/plexus/boot.json"))
		if err == nil && !strings.Contains(string(facts), lab.Device) {
			err = fmt.Errorf("boot.json holds %q", facts)
		}
		return err
	})
	if err := m.db.daemon.Stop(t.Context()); err != nil { // which writes what is left
		t.Fatal(err)
	}
}

// guard runs the boot guard on db. It ends by itself, or the test does.
func (m *trio) guard(t *testing.T, args ...string) result {
	t.Helper()
	return command(t, m.db.Host, "", append([]string{built.plexusd, "guard"}, args...)...)
}

// shutDown leaves db as a boot finds it: nothing is in the kernel, and the network
// is down.
func (m *trio) shutDown(t *testing.T) {
	t.Helper()
	m.run(t, []string{built.plexusd, "cleanup"}, []string{"ip", "link", "set", lab.Device, "down"}, []string{"ip", "addr", "flush", "dev", lab.Device})
}

// bringUp does what the network's own services do.
func (m *trio) bringUp(t *testing.T) {
	t.Helper()
	m.run(t, []string{"ip", "link", "set", lab.Device, "up"},
		[]string{"ip", "addr", "add", m.db.Addr4.String() + "/24", "dev", lab.Device},
		[]string{"ip", "addr", "add", m.db.Addr6.String() + "/64", "dev", lab.Device, "nodad"})
}

func (m *trio) run(t *testing.T, commands ...[]string) {
	t.Helper()
	for _, argv := range commands {
		if err := m.db.Run(t.Context(), argv...); err != nil {
			t.Fatal(err)
		}
	}
}

// knocking has a stranger open flow after flow to a port of db, over both
// families, while fn runs, and returns how many were answered.
func (m *trio) knocking(t *testing.T, port int, fn func()) (answered int) {
	t.Helper()
	var all []*program
	for _, a := range []string{target("", m.db.Addr4, port), target("", m.db.Addr6, port)} {
		all = append(all, launch(t, m.stranger, "knock", strings.TrimPrefix(a, "/")))
	}
	fn()
	for _, p := range all {
		r := p.finish(t)
		if r.Sent < 10 {
			t.Errorf("only %d knocks: the test proves nothing", r.Sent)
		}
		answered += r.Sent - len(r.Missing)
	}
	return answered
}

func (m *trio) testUnguarded(t *testing.T) {
	m.shutDown(t)
	answered := m.knocking(t, 5433, func() {
		m.bringUp(t)
		expect(t, m.stranger, echoed, target("tcp", m.db.Addr4, 5432))
	})
	if answered == 0 {
		t.Error("no knock was answered on a host without policy: the other tests prove nothing")
	}
}

// testGuarded knocks from before the network is up until after the daemon has taken
// over, with a connection that policy allows across that.
func (m *trio) testGuarded(t *testing.T) {
	m.shutDown(t)
	answered := m.knocking(t, 5433, func() {
		if r := m.guard(t); r.code != exitOK || !strings.Contains(r.stderr, "saved policy in force") {
			t.Fatalf("guard: exit code %d: %s", r.code, r.stderr)
		}
		m.bringUp(t)
		ways := []string{target("tcp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5432), target("udp", m.db.Addr4, 5432)}
		expect(t, m.stranger, echoed, ways...)
		verdicts(t, m.stranger, map[string][]string{silence: {target("tcp", m.db.Addr4, 5433), target("tcp", m.db.Addr6, 5433)}})
		var open []*program
		for _, way := range ways {
			open = append(open, stream(t, m.stranger, way))
		}
		m.db.start(t)
		m.enforcing(t)
		expect(t, m.web.Host, echoed, target("tcp", m.db.mesh4, 5432)) // the tunnel is back too
		verdicts(t, m.stranger, map[string][]string{silence: {target("tcp", m.db.Addr4, 5433), target("tcp", m.db.Addr6, 5433)}})
		for i, s := range open {
			s.finish(t).unharmed(t, "flow across the take-over by "+ways[i])
		}
	})
	if answered != 0 {
		t.Errorf("%d knocks at a closed port were answered", answered)
	}
}

// enforcing waits until the daemon of db has put the policy in force itself.
func (m *trio) enforcing(t *testing.T) {
	t.Helper()
	lab.Eventually(t, settled, "db enforces what it knew", func() error {
		st, err := m.db.client().Status(t.Context())
		if err == nil && (st.Datapath.PolicyRevision == 0 || !strings.Contains(fmt.Sprint(st.Datapath.Interfaces), "plexus0")) {
			err = fmt.Errorf("datapath is %+v", st.Datapath)
		}
		return err
	})
}

func (m *trio) testGuardBeside(t *testing.T) {
	if r := m.guard(t); r.code != exitOK || !strings.Contains(r.stderr, "plexusd is running") {
		t.Errorf("guard: exit code %d: %s", r.code, r.stderr)
	}
	if err := m.db.daemon.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// knowAlso has db know a second interface, until the test ends.
func (m *trio) knowAlso(t *testing.T, device string) {
	t.Helper()
	path := m.db.Path("/var/lib/plexus/boot.json")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	also := fmt.Sprintf(`{"links":{%q:{"addresses":[]},%q:{"addresses":[]}},"ssh":{}}`, lab.Device, device)
	if err := os.WriteFile(path, []byte(also), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Error(err)
		}
	})
}

func (m *trio) testLate(t *testing.T) {
	m.shutDown(t)
	m.knowAlso(t, "late0")
	cmd := m.db.Command(t.Context(), built.plexusd, "guard", "--guard-timeout", "1m")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	attached := func(device string) func() error {
		return func() error {
			return m.db.Run(t.Context(), "test", "-e", "/sys/fs/bpf/plexus/links/"+device+"_ingress")
		}
	}
	lab.Eventually(t, settled, "the interface that is there is guarded", attached(lab.Device))
	m.run(t, []string{"ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1"})
	lab.Eventually(t, settled, "the one that has come is guarded", attached("late0"))
	if err := cmd.Wait(); err != nil {
		t.Errorf("guard ended with %v", err)
	}
	m.run(t, []string{"ip", "link", "delete", "late0"})
}

func (m *trio) testMissing(t *testing.T) {
	m.shutDown(t)
	m.knowAlso(t, "never0")
	r := m.guard(t, "--guard-timeout", "10s")
	if r.code != exitOK || !strings.Contains(r.stderr, "never0") || !strings.Contains(r.stderr, "not there in time") {
		t.Errorf("guard: exit code %d: %s", r.code, r.stderr)
	}
	m.bringUp(t)
	expect(t, m.stranger, echoed, target("tcp", m.db.Addr4, 5432))
	verdicts(t, m.stranger, map[string][]string{silence: {target("tcp", m.db.Addr4, 5433)}})
}

func (m *trio) testDamagedSnapshot(t *testing.T) {
	path := m.db.Path("/var/lib/plexus/snapshot")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	m.failing(t, []string{"damaged"}, m.guard)
	counted := m.refusedWithoutPolicy(t)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if counted == 0 {
		t.Error("no packet is counted as refused for want of a policy")
	}
}

// failing runs a guard that cannot enforce, and wants it to say why and to do what
// it is told: to leave db open, or closed.
func (m *trio) failing(t *testing.T, words []string, guard func(t *testing.T, args ...string) result) {
	t.Helper()
	ways := []string{target("tcp", m.db.Addr4, 5432), target("tcp", m.db.Addr6, 5433)}
	for _, tt := range []struct{ mode, says, want string }{{"open", "boots OPEN", echoed}, {"closed", "boots CLOSED", silence}} {
		m.shutDown(t)
		guard(t, "--guard-on-failure", tt.mode).refused(t, exitError, append(words, tt.says)...)
		m.bringUp(t)
		expect(t, m.stranger, tt.want, ways...)
	}
}

// refusedWithoutPolicy is how many packets were refused because there is no policy.
// The daemon that tells has not heard the mesh, and leaves things as they are.
func (m *trio) refusedWithoutPolicy(t *testing.T) (n uint64) {
	t.Helper()
	m.db.start(t)
	verdicts(t, m.stranger, map[string][]string{silence: {target("tcp", m.db.Addr4, 5432)}})
	for _, c := range ask[[]api.CounterEntry](t, m.db, "bpf", "metrics", "list") {
		if c.Reason == "no policy loaded" {
			n += c.Packets
		}
	}
	if err := m.db.daemon.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	return n
}

// testNoBPFFS can close nothing: there is nowhere to keep programs.
func (m *trio) testNoBPFFS(t *testing.T) {
	m.shutDown(t)
	m.run(t, []string{"umount", "/sys/fs/bpf"})
	m.guard(t).refused(t, exitError, "boots OPEN", "not on a BPF file system", "mount -t bpf")
	m.guard(t, "--guard-on-failure", "closed").refused(t, exitError, "could not be closed", "not on a BPF file system")
	m.run(t, []string{"mount", "-t", "bpf", "bpf", "/sys/fs/bpf"})
	m.bringUp(t)
	expect(t, m.stranger, echoed, target("tcp", m.db.Addr4, 5433))
}

func (m *trio) testNoBPF(t *testing.T) {
	m.shutDown(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(mode string) result {
		return command(t, m.db.Host, "", "env", roleEnv+"=without-bpf", self, built.plexusd, "guard", "--guard-on-failure", mode)
	}
	doctor := command(t, m.db.Host, "", "env", roleEnv+"=without-bpf", self, built.plexus, "doctor")
	if doctor.code != exitError || !strings.Contains(doctor.stdout, "missing: BPF ring buffers") || !strings.Contains(doctor.stdout, "plexusd does not start") {
		t.Errorf("doctor: exit code %d: %s%s", doctor.code, doctor.stdout, doctor.stderr)
	}
	run("open").refused(t, exitError, "boots OPEN", "this kernel", "has no")
	run("closed").refused(t, exitError, "could not be closed", "this kernel", "has no")
	m.bringUp(t)
	expect(t, m.stranger, echoed, target("tcp", m.db.Addr4, 5433))
}

func (m *trio) testUnjoined(t *testing.T) {
	r := command(t, m.stranger, "", built.plexusd, "guard", "--guard-on-failure", "closed")
	if r.code != exitOK || !strings.Contains(r.stderr, "not joined") {
		t.Errorf("guard: exit code %d: %s", r.code, r.stderr)
	}
	if left, err := m.stranger.Output(t.Context(), "find", "/sys/fs/bpf/plexus", "/var/lib/plexus", "-mindepth", "1"); err == nil || len(left) > 0 {
		t.Errorf("it left %s", left)
	}
}

// withoutBPF is the role that becomes argv on a kernel whose bpf(2) was left out.
// A filter answers in its place (seccomp(2)).
func withoutBPF(argv []string) error {
	const loadNumber = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS // of the system call: the first word of seccomp_data
	filter := []unix.SockFilter{
		{Code: loadNumber},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_BPF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)}, // what an older kernel says of what it does not know
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("install filter: %w", errno)
	}
	return syscall.Exec(argv[0], argv, os.Environ())
}
