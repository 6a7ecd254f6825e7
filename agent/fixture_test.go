package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
	"github.com/plexusmesh/plexus/kvstore/publish"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/policy"
	"github.com/plexusmesh/plexus/reconcile"
)

var east = mesh.Cluster{Name: "east", ID: 1}

const webIdentity = mesh.Identity(1<<16 | 256)

// rulebook is the policy map of a kernel that can fail its next load.
type rulebook struct {
	mu    sync.Mutex
	have  bpfmap.Ruleset
	loads uint32
	fail  error
	watch func() // called before each load; may be nil
}

func (r *rulebook) List() (bpfmap.Ruleset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.have, nil
}

func (r *rulebook) Load(rules bpfmap.Ruleset) (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail; err != nil {
		r.fail = nil
		return 0, err
	}
	if r.watch != nil {
		r.watch()
	}
	r.have = rules
	r.loads++
	return r.loads, nil
}

func (r *rulebook) Revision() (uint32, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loads, nil
}

// set replaces what the kernel holds, which counts as the work of an earlier run
// if revision is not 0.
func (r *rulebook) set(rules bpfmap.Ruleset, revision uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.have, r.loads = rules, revision
}

// onLoad has f called before each load.
func (r *rulebook) onLoad(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch = f
}

// failNext makes the next load fail with err and change nothing.
func (r *rulebook) failNext(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

// passes reports whether the kernel lets a new TCP flow to port come in.
func (r *rulebook) passes(port uint16) bool {
	have, _ := r.List()
	v := policy.Verdicts{Entries: have.Entries, Prefixes: have.Prefixes}
	return v.Judge(policy.Flow{Peer: identity.WorldIPv4, Direction: policy.Ingress, Protocol: 6, Port: port}).Allowed
}

// machine is a host on which members run one after another: its disk, its kernel
// and its clock outlive them.
type machine struct {
	config config.Config
	key    []byte
	kernel *rulebook
	etcd   *kvtest.Store
	boot   string
	booted time.Time
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := ca.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	c := &machine{key: text, kernel: &rulebook{}, etcd: kvtest.NewStore(), boot: "first", booted: time.Now()}
	c.config = config.Config{
		StateDir: t.TempDir(), Failsafe: facts.DefaultFailsafe(), WireGuard: config.WireGuard{Device: "plexus0", Port: 51871},
		Policy: config.Policy{Dir: t.TempDir(), DefaultLocalCluster: true},
	}
	c.enrol(t)
	return c
}

// start runs a member with the parts that decide what its kernel is to hold, and
// returns how to stop it. It stops by itself at the end of the test.
func (c *machine) start(t *testing.T) (m *member, stop func()) {
	t.Helper()
	m = &member{
		opts:   Options{Config: c.config, Logger: kvtest.Logger(t)},
		logger: kvtest.Logger(t), refused: &refusals{}, unrestored: &refusals{},
		news: make(chan struct{}, 1), moved: make(chan struct{}, 1), governed: make(chan struct{}),
		kernel: &kernel{verdicts: &verdicts{maps: c.kernel, host: "web-1"}},
		enrolment: control.Enrolment{
			Node: "web-1", Cluster: east, KeyPEM: c.key,
			Mesh4: netip.MustParseAddr("10.210.0.1"), Pools: []netip.Prefix{netip.MustParsePrefix("10.210.0.0/16")},
		},
	}
	m.names = &names{rules: m.kernel.verdicts.Rule}
	m.uplinks = &device.State{Uplinks: []device.Uplink{{Name: "eth0"}}, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, MTU: 1500}
	if err := errors.Join(m.configure(), m.remember(), m.listen(c.etcd)); err != nil {
		t.Fatal(err)
	}
	m.probation.clock = func() trial.Moment {
		return trial.Moment{Wall: time.Now(), Boot: c.boot, Up: time.Since(c.booted)}
	}
	c.assemble(t, m)
	return m, c.run(t, m)
}

func (c *machine) assemble(t *testing.T, m *member) {
	t.Helper()
	var err error
	m.publisher, err = publish.New(publish.Options{
		Store: c.etcd, Logger: m.logger, Scopes: []string{schema.ClaimKey("web-1"), schema.LiveKey("web-1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.conductor = reconcile.New(reconcile.Options[plan.Desired]{
		Name: "kernel", Steps: []reconcile.Step[plan.Desired]{{Resource: m.kernel.policy()}}, Logger: m.logger,
		Synced: func() bool { return m.store.Snapshot().Synced() }, Applied: m.noteApplied,
	})
}

func (c *machine) run(t *testing.T, m *member) (stop func()) {
	t.Helper()
	m.suspend()
	parts := []func(context.Context) error{m.conductor.Run, m.planning, m.restoring, m.keeper.Run, m.probation.Run}
	for _, mir := range m.mirrors {
		parts = append(parts, mir.Run)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() {
			if err := part(ctx); err != nil {
				t.Errorf("a part ended with %v", err)
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// savedRevision returns the revision of the policies that the disk has.
func (c *machine) savedRevision(t *testing.T) schema.PolicyRevision {
	t.Helper()
	key, kerr := ca.ParseKey(c.key)
	data, rerr := os.ReadFile(snapshotFile(c.config.StateDir))
	if err := errors.Join(kerr, rerr); err != nil {
		t.Error(err)
		return schema.PolicyRevision{}
	}
	image, derr := snapshot.Decode(data, snapshot.Owner{Cluster: east.Name, Node: "web-1", Key: key})
	r, err := schema.DecodePolicyRevision("", image.Sources["policies"][schema.PolicyRevisionName])
	if err := errors.Join(derr, err); err != nil {
		t.Error(err)
	}
	return r
}

// reboot has the kernel forget everything.
func (c *machine) reboot() {
	c.kernel.set(bpfmap.Ruleset{}, 0)
	c.boot, c.booted = c.boot+", again", time.Now()
}

// put writes into etcd what a mesh with this host has.
func (c *machine) put(t *testing.T, values map[string][]byte) {
	t.Helper()
	if err := c.etcd.PutAll(t.Context(), values); err != nil {
		t.Fatal(err)
	}
}

// enrol makes web-1 a host of the mesh.
func (c *machine) enrol(t *testing.T) {
	t.Helper()
	l := schema.Layout{Cluster: "east"}
	e := mesh.Endpoint{Prefix: netip.MustParsePrefix("10.210.0.1/32"), Identity: webIdentity}
	endpoint, err := schema.EncodeEndpoint(e)
	c.put(t, map[string][]byte{
		l.Prefix(schema.Identities) + fmt.Sprint(uint32(webIdentity)): schema.EncodeIdentity(identity.HostLabels(map[string]string{"app": "web"}, "default", east)),
		l.Endpoint(e.Prefix): encoded(t, endpoint, err),
	})
}

// opening is a policy document that selects every host and opens one port.
func opening(name string, port int) string {
	return fmt.Sprintf("apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: %s}\n"+
		"spec:\n  nodeSelector: {}\n  ingress: [{toPorts: [{ports: [{port: \"%d\", protocol: TCP}]}]}]\n", name, port)
}

// apply writes a revision whose one policy "web" opens port, in the place of one
// that opened before; window is in seconds, 0 for no trial.
func (c *machine) apply(t *testing.T, r schema.PolicyRevision, port, before int) {
	t.Helper()
	document, err := schema.EncodePolicy(schema.Policy{Name: "web", Document: opening("web", port), Revision: r.Revision})
	if r.WindowSeconds > 0 {
		r.ConfirmBy = r.Time.Add(time.Duration(r.WindowSeconds) * time.Second)
		r.Changes = []schema.PolicyChange{{Name: "web", Change: schema.ChangeUpdated, Before: opening("web", before)}}
	}
	revision, rerr := schema.EncodePolicyRevision(r)
	c.put(t, map[string][]byte{
		schema.PolicyKey("web"): encoded(t, document, err), schema.PolicyRevisionKey: encoded(t, revision, rerr),
	})
}

// open returns which of the ports that tests open the kernel lets pass.
func (c *machine) open() []uint16 {
	var out []uint16
	for _, port := range []uint16{80, 81, 82, 9999} {
		if c.kernel.passes(port) {
			out = append(out, port)
		}
	}
	return out
}
