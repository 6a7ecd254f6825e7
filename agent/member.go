package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plexusmesh/plexus/agent/facts"
	"github.com/plexusmesh/plexus/agent/localpolicy"
	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/agent/trial"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/mirror"
	"github.com/plexusmesh/plexus/kvstore/publish"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/observe"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/reconcile"
	"github.com/plexusmesh/plexus/state"
)

// member is this host as part of a mesh: every part of it, built and joined.
type member struct {
	opts      Options
	logger    *slog.Logger
	enrolment control.Enrolment
	started   time.Time

	failsafe   facts.Failsafe
	namedPorts []mesh.NamedPort
	looks      *facts.Looks // for planning alone
	planner    plan.Builder // for planning alone
	claimed    *mesh.Claim  // for planning alone: what was published last; nil for nothing
	secured    trial.Trial  // for planning alone: the trial that the disk was last told of

	etcd       *kvstore.Client
	sources    []source
	mirrors    []*mirror.Mirror
	refused    *refusals
	unrestored *refusals // of what an earlier run knew
	store      *state.Store
	keeper     *snapshot.Keeper
	probation  *probation
	reminder   *reminder
	directory  *localpolicy.Directory
	serving    *serving // nil on a host that is no server

	kernel    *kernel
	sweeper   *sweeper
	conductor *reconcile.Conductor[plan.Desired]
	publisher *publish.Publisher
	names     *names
	flows     *observe.Recorder
	news      chan struct{} // holds one token while facts of this host have news
	moved     chan struct{} // holds one token while its addresses have news
	governed  chan struct{} // closed once the kernel held everything for the first time

	arming sync.Mutex // held by disarm and arm, which exclude each other
	passed passed     // the last review without errors

	mu         sync.Mutex
	uplinks    *device.State   // nil until found
	found      facts.Found     // who listens here
	own        localpolicy.Set // this host's own policies
	suspension *suspension     // nil while policy is enforced
	desired    *plan.Desired   // nil until planned
	applied    *plan.Desired   // nil until the kernel held all of it once
	unlisted   bool            // whether the mesh does not know this host
	reported   error           // why servers could not be shown our addresses
}

// newMember builds the parts around k, which is then the member's to close, also
// when it fails. It starts nothing and changes nothing.
func newMember(o Options, e control.Enrolment, k *kernel) (*member, error) {
	m := &member{
		opts: o, logger: o.Logger, enrolment: e, kernel: k, started: time.Now(),
		refused: &refusals{}, unrestored: &refusals{}, news: make(chan struct{}, 1), moved: make(chan struct{}, 1), governed: make(chan struct{}),
	}
	tlsConfig, err := client.TLS(e)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := errors.Join(m.configure(), m.remember()); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := m.open(tlsConfig); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// configure reads the settings that say what passes under any policy.
func (m *member) configure() (err error) {
	cfg := m.opts.Config
	if m.failsafe, err = facts.ParseFailsafe(cfg.Failsafe); err != nil {
		return err
	}
	if m.namedPorts, err = facts.ParseNamedPorts(cfg.NamedPorts); err != nil {
		return err
	}
	m.looks = facts.NewLooks("/proc", m.namedPorts)
	return nil
}

// remember reads what an earlier run left on disk, and this host's own policies.
func (m *member) remember() (err error) {
	cfg := m.opts.Config
	m.sources = ownCluster(m.enrolment.Cluster)
	if m.keeper, err = openKeeper(m.opts, m.enrolment, m.sources); err != nil {
		return err
	}
	if m.probation, err = openProbation(cfg.StateDir, m.logger); err != nil {
		return err
	}
	if m.reminder, err = openReminder(cfg.StateDir, m.logger); err != nil {
		return err
	}
	m.suspension = loadSuspension(cfg.StateDir)
	o := localpolicy.Options{Dir: cfg.Policy.Dir, Logger: m.logger, Changed: m.setOwn}
	if img := m.keeper.Earlier(); img != nil {
		o.Accepted = img.Files
	}
	m.directory, m.own = localpolicy.Open(o)
	m.keeper.SetFiles(m.own.Accepted)
	return nil
}

// setOwn takes what this host's own policy files say.
func (m *member) setOwn(s localpolicy.Set) {
	m.keeper.SetFiles(s.Accepted)
	m.mu.Lock()
	m.own = s
	m.mu.Unlock()
	signal(m.news)
}

func (m *member) open(tlsConfig *tls.Config) (err error) {
	m.etcd, err = kvstore.Open(kvstore.Options{Endpoints: m.enrolment.Etcd, TLS: tlsConfig, Logger: m.logger})
	if err != nil {
		return err
	}
	if err := m.listen(m.etcd); err != nil {
		return err
	}
	m.publisher, err = publish.New(publish.Options{
		Store: m.etcd, Logger: m.logger,
		Scopes: []string{schema.ClaimKey(m.enrolment.Node), schema.LiveKey(m.enrolment.Node)},
	})
	if err != nil {
		return err
	}
	m.kernel.verdicts.host = m.enrolment.Node
	m.sweeper = &sweeper{tables: kernelTables{m.kernel.maps}, logger: m.logger}
	m.names = &names{rules: m.kernel.verdicts.Rule}
	m.flows, err = observe.New(observe.Options{Node: m.enrolment.Node, Capacity: m.opts.Config.Flows.Capacity, Resolver: m.names})
	m.conductor = reconcile.New(reconcile.Options[plan.Desired]{
		Name: "kernel", Steps: m.kernel.steps(), Logger: m.logger,
		Synced:  func() bool { return m.store.Snapshot().Synced() },
		Applied: m.noteApplied,
	})
	return err
}

// listen prepares a mirror for each source.
func (m *member) listen(etcd mirror.Lister) error {
	m.store = newStore(m.sources)
	f := feed{client: etcd, store: m.store, keep: m.keeper, refused: m.refused, logger: m.logger}
	for _, s := range m.sources {
		mir, err := f.mirror(s)
		if err != nil {
			return err
		}
		m.mirrors = append(m.mirrors, mir)
	}
	return nil
}

// newStore returns a store that believes the first of sources first.
func newStore(sources []source) *state.Store {
	var ranks []string
	for _, s := range sources {
		ranks = append(ranks, s.name)
	}
	return state.New(ranks...)
}

// Close lets go of what newMember opened. What the kernel holds stays in force.
func (m *member) Close() error {
	var errs []error
	if m.etcd != nil {
		errs = append(errs, m.etcd.Close())
	}
	if m.kernel != nil {
		errs = append(errs, m.kernel.Close())
	}
	return errors.Join(errs...)
}

// Run keeps this host what the mesh wants it to be until ctx ends.
func (m *member) Run(ctx context.Context) error {
	m.suspend()
	g, ctx := errgroup.WithContext(ctx)
	watcher := device.NewWatcher(m.deviceOptions(), m.logger, m.setUplinks)
	parts := []func(context.Context) error{
		watcher.Run, m.directory.Run, m.publisher.Run, m.conductor.Run, m.planning, m.restoring, m.reporting, m.recording,
		m.keeper.Run, m.probation.Run, m.sweeper.Run, m.reminder.Run,
	}
	for _, mir := range m.mirrors {
		parts = append(parts, mir.Run)
	}
	for _, run := range parts {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

func (m *member) deviceOptions() device.Options {
	return device.Options{
		Tunnel: m.opts.Config.WireGuard.Device, Interfaces: m.opts.Config.Interfaces,
		Advertise: m.enrolment.Advertise, Exclude: m.enrolment.Pools,
	}
}

// recording turns the kernel's reports into flows. A report that cannot be read,
// as one of another version's programs that are still attached, is no reason to
// stop everything else.
func (m *member) recording(ctx context.Context) error {
	return persist(ctx, func(ctx context.Context) error {
		err := m.kernel.maps.Events.Run(ctx, m.flows.Record)
		if err != nil {
			m.logger.Warn("flow events not recorded: trying again", "error", err)
		}
		return err
	})
}

// persistPause is how long persist waits.
const persistPause = time.Second

// persist runs f again after a pause whenever it fails, until ctx ends.
func persist(ctx context.Context, f func(context.Context) error) error {
	for f(ctx) != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(persistPause):
		}
	}
	return nil
}

func (m *member) noteApplied(d plan.Desired, err error) {
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.applied == nil {
		close(m.governed)
		m.logger.Info("host is governed", "node", m.enrolment.Node, "cluster", m.enrolment.Cluster.Name, "peers", len(d.Peers), "policyRevision", d.Revision)
	}
	m.applied = &d
}

// awaitGoverned waits, for a bounded time, until the kernel holds everything,
// and reports whether it does.
func (m *member) awaitGoverned(ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-time.After(governedWithin):
	case <-m.governed:
		return true
	}
	return false
}
