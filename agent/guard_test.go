package agent

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
)

// recall is what the boot guard plans on c.
func (c *machine) recall(t *testing.T, b bootFacts) (plan.Desired, error) {
	t.Helper()
	m := &member{
		opts:   Options{Config: c.config, Logger: kvtest.Logger(t)},
		logger: kvtest.Logger(t), refused: &refusals{}, unrestored: &refusals{}, news: make(chan struct{}, 1),
		enrolment: control.Enrolment{
			Node: "web-1", Cluster: east, KeyPEM: c.key,
			Mesh4: netip.MustParseAddr("10.210.0.1"), Pools: []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16")},
		},
	}
	if err := errors.Join(m.configure(), m.remember()); err != nil {
		t.Fatal(err)
	}
	m.probation.clock = func() trial.Moment {
		return trial.Moment{Wall: time.Now(), Boot: c.boot, Up: time.Since(c.booted)}
	}
	return m.recall(b)
}

// opens returns which of the ports that tests open d lets pass.
func opens(d plan.Desired) []uint16 {
	var out []uint16
	for _, port := range []uint16{80, 81, 82, 9999} {
		if d.Verdicts.Judge(policy.Flow{Peer: identity.WorldIPv4, Direction: policy.Ingress, Protocol: 6, Port: port}).Allowed {
			out = append(out, port)
		}
	}
	return out
}

func wantOpens(t *testing.T, d plan.Desired, err error, want ...uint16) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, opens(d)); diff != "" {
		t.Errorf("the guard opens: want -, got +:\n%s", diff)
	}
}

// resave replaces the snapshot by what change makes of it.
func (c *machine) resave(t *testing.T, change func(*snapshot.Image)) {
	t.Helper()
	key, err := ca.ParseKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	owner := snapshot.Owner{Cluster: east.Name, Node: "web-1", Key: key}
	data, err := os.ReadFile(snapshotFile(c.config.StateDir))
	if err != nil {
		t.Fatal(err)
	}
	img, err := snapshot.Decode(data, owner)
	if err != nil {
		t.Fatal(err)
	}
	change(&img)
	if data, err = snapshot.Encode(img, owner); err == nil {
		err = os.WriteFile(snapshotFile(c.config.StateDir), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestABootPlansWhatTheHostKnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		n := mesh.Node{Name: "web-1", Cluster: east, Key: mesh.Key{1}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, Mesh4: netip.MustParseAddr("10.210.0.1")}
		record, err := schema.EncodeNode(n)
		c.put(t, map[string][]byte{schema.Layout{Cluster: "east"}.Node(n.Name): encoded(t, record, err)})
		c.apply(t, schema.PolicyRevision{Revision: 3}, 80, 0)
		_, stop := c.start(t)
		settled(soon)
		stop()
		c.reboot()
		facts := bootFacts{Links: map[string]bootLink{"eth0": {Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}, SSH: map[uint16]bootPort{2222: {}}}
		d, err := c.recall(t, facts)
		wantOpens(t, d, err, 80)
		if d.Revision != 3 || d.Self != webIdentity {
			t.Errorf("revision %d, identity %d", d.Revision, d.Self)
		}
		for _, a := range []string{"192.0.2.1/32", "192.0.2.7/32", "10.210.0.1/32"} { // had last, known by, mesh
			if p := d.IPCache[netip.MustParsePrefix(a)]; p.Identity != webIdentity || p.Flags&datapath.PeerLocal == 0 {
				t.Errorf("%s is %+v: others could speak as this host", a, p)
			}
		}
		if _, open := d.Pinholes[datapath.Pinhole{Direction: policy.Ingress, Protocol: 6, Port: 2222}]; !open {
			t.Errorf("pinholes %v: the way in is closed until an SSH server listens and plexusd sees it", d.Pinholes)
		}
	})
}

func TestATrialGoesOnAcrossABoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		_, stop := c.start(t)
		trialOf(t, c)
		stop()
		c.reboot()
		d, err := c.recall(t, bootFacts{})
		wantOpens(t, d, err, 81)
		settled(time.Minute)
		d, err = c.recall(t, bootFacts{})
		wantOpens(t, d, err, 80)
		if !d.Lapsed {
			t.Error("the plan does not say that the trial has ended")
		}
	})
}

// The daemon had no time to write when it first saw the trial: then the window
// begins at boot, and ends no later because the daemon starts again.
func TestATrialThatIsNewAtBootIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		_, stop := c.start(t)
		trialOf(t, c)
		stop()
		if err := os.Remove(trialFile(c.config.StateDir)); err != nil {
			t.Fatal(err)
		}
		d, err := c.recall(t, bootFacts{})
		wantOpens(t, d, err, 81)
		settled(time.Minute)
		c.etcd.SetDown(true)
		c.start(t)
		settled(restoreAfter + soon)
		wantOpen(t, c, "once the daemon runs", 80)
	})
}

func TestADisarmedHostBootsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		_, stop := c.start(t)
		settled(soon)
		stop()
		if err := writeJSON(disarmedFile(c.config.StateDir), &suspension{}); err != nil {
			t.Fatal(err)
		}
		d, err := c.recall(t, bootFacts{})
		wantOpens(t, d, err, 80, 81, 82, 9999)
	})
}

func TestWhatABootCannotPlanIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, c *machine)
		want  string
	}{
		"nothing saved": {func(t *testing.T, c *machine) {
			if err := os.Remove(snapshotFile(c.config.StateDir)); err != nil {
				t.Fatal(err)
			}
		}, "snapshot is missing"},
		"damaged": {func(t *testing.T, c *machine) {
			if err := os.Truncate(snapshotFile(c.config.StateDir), 100); err != nil {
				t.Fatal(err)
			}
		}, "damaged"},
		"another host's": {func(t *testing.T, c *machine) { c.key = newMachine(t).key }, "signed with another key"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newMachine(t)
				_, stop := c.start(t)
				settled(soon)
				stop()
				tt.spoil(t, c)
				if _, err := c.recall(t, bootFacts{}); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want an error that says %q", err, tt.want)
				}
			})
		})
	}
}

func TestAHostThatTheMeshForgotCannotBePlanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		if err := c.etcd.Delete(t.Context(), schema.Layout{Cluster: "east"}.Endpoint(netip.MustParsePrefix("10.210.0.1/32"))); err != nil {
			t.Fatal(err)
		}
		_, stop := c.start(t)
		settled(soon)
		stop()
		if _, err := c.recall(t, bootFacts{}); err == nil || !strings.Contains(err.Error(), "has no host web-1") {
			t.Errorf("%v", err)
		}
	})
}

func TestAPolicyThatIsNotUnderstoodIsNotGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newMachine(t)
		c.apply(t, schema.PolicyRevision{Revision: 1}, 80, 0)
		_, stop := c.start(t)
		settled(soon)
		stop()
		c.resave(t, func(img *snapshot.Image) { // as a newer plexusd might have
			document, err := schema.EncodePolicy(schema.Policy{Name: "web", Document: strings.Replace(opening("web", 80), "ingress", "futureKey", 1), Revision: 1})
			img.Sources["policies"]["web"] = encoded(t, document, err)
		})
		if _, err := c.recall(t, bootFacts{}); err == nil || !strings.Contains(err.Error(), "not understood") {
			t.Errorf("%v, want an error that says that a policy is not understood", err)
		}
		c.resave(t, func(img *snapshot.Image) { delete(img.Sources, "identities") })
		if _, err := c.recall(t, bootFacts{}); err == nil || !strings.Contains(err.Error(), "another version") {
			t.Errorf("%v, want an error that says that something is left out", err)
		}
	})
}

// A disk that hangs keeps a boot no longer than the setting says.
func TestADiskThatHangsIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "enrolment.json")
	if err := unix.Mkfifo(pipe, 0o600); err != nil { // whoever reads it waits for a writer
		t.Fatal(err)
	}
	cfg := config.Config{StateDir: dir, Guard: config.Guard{OnFailure: config.GuardOpen, Timeout: 200 * time.Millisecond, Interfaces: config.GuardKnown}}
	err := Guard(t.Context(), Options{Config: cfg, Logger: kvtest.Logger(t)})
	if err == nil || !strings.Contains(err.Error(), "boots OPEN") || !strings.Contains(err.Error(), "from a disk") {
		t.Errorf("%v", err)
	}
	if w, err := os.OpenFile(pipe, os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil { // let the reader go
		w.Close()
	}
}

func TestOneThatIsLateIsGivenUpToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never := make(chan struct{})
		defer close(never)
		_, err := within(time.Second, func() (int, error) { <-never; return 0, nil })
		if !errors.Is(err, errLate) {
			t.Errorf("%v, want errLate", err)
		}
	})
}

func TestWhichInterfacesAreGuarded(t *testing.T) {
	known := func(names ...string) bootFacts {
		f := bootFacts{Links: make(map[string]bootLink)}
		for _, n := range names {
			f.Links[n] = bootLink{}
		}
		return f
	}
	links := []device.Link{{Name: "eth0", Index: 1, Physical: true}, {Name: "eth1", Index: 2, Physical: true}, {Name: "bond0", Index: 3}, {Name: "plexus0", Index: 4, Physical: true}}
	for _, tt := range []struct {
		name        string
		configured  []string
		interfaces  string
		facts       bootFacts
		await, take []string
	}{
		{"managed last", nil, config.GuardKnown, known("eth0", "gone0"), []string{"eth0", "gone0"}, []string{"eth0"}},
		{"and all hardware", nil, config.GuardPhysical, known("bond0"), []string{"bond0"}, []string{"eth0", "eth1", "bond0"}},
		{"nothing known", nil, config.GuardKnown, known(), nil, []string{"eth0", "eth1"}},
		{"told, nothing known", []string{"eth1", "bond*"}, config.GuardKnown, known(), []string{"eth1"}, []string{"eth1", "bond0"}},
		{"told otherwise since", []string{"eth1"}, config.GuardKnown, known("eth0", "eth1"), []string{"eth1"}, []string{"eth1"}},
		{"told by pattern", []string{"eth*"}, config.GuardKnown, known("eth0"), []string{"eth0"}, []string{"eth0", "eth1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := &guard{opts: Options{Config: config.Config{Interfaces: tt.configured, Guard: config.Guard{Interfaces: tt.interfaces}, WireGuard: config.WireGuard{Device: "plexus0"}}}}
			c := g.choice(tt.facts)
			var take []string
			for _, l := range links {
				if c.takes(l) {
					take = append(take, l.Name)
				}
			}
			if diff := cmp.Diff([2][]string{tt.await, tt.take}, [2][]string{c.await, take}); diff != "" {
				t.Errorf("awaited and taken: want -, got +:\n%s", diff)
			}
		})
	}
}

func TestAClosedHostLetsItsFailsafeThrough(t *testing.T) {
	g := &guard{opts: Options{Config: config.Config{
		Failsafe: []string{"wireguard", "servers", "ssh", "ingress 9100/TCP"}, WireGuard: config.WireGuard{Port: 51871},
		API: config.API{Port: 7443}, Etcd: config.Etcd{ClientPort: 2379},
	}}}
	for _, tt := range []struct {
		name string
		have known
		ssh  []uint16
		want []string
	}{
		{"of its mesh", known{enrolment: &control.Enrolment{Servers: []string{"192.0.2.1:8443"}, Etcd: []string{"https://192.0.2.1:3379"}}}, []uint16{2222},
			[]string{"ingress 2222/TCP", "ingress 9100/TCP", "ingress 51871/UDP", "egress 3379/TCP", "egress 8443/TCP", "egress 51871/UDP"}},
		{"of a mesh that is not known", known{}, nil,
			[]string{"ingress 22/TCP", "ingress 9100/TCP", "ingress 51871/UDP", "egress 2379/TCP", "egress 7443/TCP", "egress 51871/UDP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			holes, err := g.failsafe(tt.have, tt.ssh)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range holes {
				got = append(got, h.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// An administrator who has opened a host is not shut out because its disk fails.
func TestADisarmedHostIsNeverClosed(t *testing.T) {
	g := &guard{opts: Options{Config: config.Config{Guard: config.Guard{OnFailure: config.GuardClosed}}}}
	if err := g.fail(t.Context(), known{disarmed: true}, errLate); !errors.Is(err, errLate) || !strings.Contains(err.Error(), "boots OPEN") {
		t.Errorf("%v", err)
	}
}

// After a boot there is no tunnel, and nothing newer than the snapshot.
func TestADaemonWaitsForEtcdOnlyBesideATunnel(t *testing.T) {
	rules := &rulebook{loads: 3}
	for fresh, want := range map[bool]time.Duration{true: 0, false: restoreAfter} {
		m := &member{kernel: &kernel{verdicts: &verdicts{maps: rules}, fresh: fresh}}
		if got := m.patience(); got != want {
			t.Errorf("without a tunnel %v: it waits %v, want %v", fresh, got, want)
		}
	}
}
