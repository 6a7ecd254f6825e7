package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/route/routetest"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/encryption/wg/wgtest"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// patience bounds every wait of a script.
const patience = 10 * time.Second

// TestScripts runs testdata/*.txtar. Their commands:
//
//	host NAME N APP [KEYOF]   etcd says: host N is NAME, labelled app=APP, with the key of KEYOF (NAME's own)
//	gone NAME N               etcd says: it left
//	policy FILE               etcd says: this policy, in one more revision
//	etcd down|up|break        etcd goes, comes back, or loses its connections
//	hold|release SOURCE       a source is not heard, and then is
//	start, crash              an agent starts; it ends and cleans nothing up
//	synced SOURCE             waits until that source has synced
//	given peer NAME ADDRESS:PORT PREFIX   the kernel holds a peer that an earlier run left
//	fail OP                   the next call of OP fails (an operation of wgtest or routetest)
//	broken|mended TABLE       writes to a table fail from now on, or no more
//	failing STEP|none         waits until that step fails, or until none does
//	want TABLE FILE           waits until the table reads as the file
//	still TABLE FILE          the table reads as the file now
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true,
		UpdateScripts: os.Getenv("PLEXUS_UPDATE_SCRIPTS") != "",
		Setup:         setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"host": command(3, cmdHost), "gone": command(2, cmdGone), "policy": command(1, cmdPolicy),
			"etcd": command(1, cmdEtcd), "hold": command(1, cmdGate), "release": command(1, cmdGate),
			"start": command(0, cmdStart), "crash": command(0, cmdCrash), "synced": command(1, cmdSynced),
			"given": command(4, cmdGiven), "fail": command(1, cmdFail),
			"broken": command(1, cmdBroken), "mended": command(1, cmdMended), "failing": command(1, cmdFailing),
			"want": command(2, cmdWant), "still": command(2, cmdStill),
		},
	})
}

type worldKey struct{}

func setup(env *testscript.Env) error {
	w := newWorld(&testLog{t: env.T()})
	env.Values[worldKey{}] = w
	env.Defer(func() {
		if w.agent != nil {
			_ = w.end() // a script may end with an agent that runs
		}
	})
	return w.putHost([]string{"self", "1", "db"})
}

// testLog prints what agents log beside the script.
type testLog struct {
	mu sync.Mutex
	t  testscript.T
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t.Verbose() {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// command makes a script's command of f, which gets at least n arguments.
func command(n int, f func(*testscript.TestScript, *world, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < n {
			ts.Fatalf("want at least %d arguments and no !", n)
		}
		ts.Check(f(ts, ts.Value(worldKey{}).(*world), args))
	}
}

// eventually polls ok until it returns nil.
func eventually(ok func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (w *world) put(key string, value []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = w.kv.Put(context.Background(), key, value, 0)
	return err
}

// identityOf numbers labels by their first letter.
func identityOf(app string) mesh.Identity {
	return mesh.Identity(cluster.ID<<16 + 256 + uint32(app[0]))
}

func letterOf(id mesh.Identity) string { return string(rune(id&0xffff - 256)) }

func (w *world) putHost(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	host, id := node(args[0], n), identityOf(args[2])
	if len(args) > 3 {
		host.Key = keyOf(args[3])
	}
	labels := identity.HostLabels(map[string]string{"app": args[2]}, "default", cluster)
	if err := w.put(layout.Identity(id), schema.EncodeIdentity(labels), nil); err != nil {
		return err
	}
	for _, p := range host.MeshPrefixes() {
		value, err := schema.EncodeEndpoint(mesh.Endpoint{Prefix: p, Identity: id, Host: host.Addresses[0], Key: mesh.EncryptedWireGuard})
		if err := w.put(layout.Endpoint(p), value, err); err != nil {
			return err
		}
	}
	value, err := schema.EncodeNode(host)
	return w.put(layout.Node(host.Name), value, err)
}

func cmdHost(_ *testscript.TestScript, w *world, args []string) error { return w.putHost(args) }

func cmdGone(_ *testscript.TestScript, w *world, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	host := node(args[0], n)
	err = w.kv.Delete(context.Background(), layout.Node(host.Name))
	for _, p := range host.MeshPrefixes() {
		err = errors.Join(err, w.kv.Delete(context.Background(), layout.Endpoint(p)))
	}
	return err
}

func cmdPolicy(ts *testscript.TestScript, w *world, args []string) error {
	document := ts.ReadFile(args[0])
	parsed, err := policy.Parse(args[0], []byte(document))
	if err != nil {
		return err
	}
	w.revision++
	name := parsed[0].ID()
	value, err := schema.EncodePolicy(schema.Policy{Name: name, Document: document, Revision: w.revision})
	if err != nil {
		return err
	}
	revision, err := schema.EncodePolicyRevision(schema.PolicyRevision{Revision: w.revision})
	if err != nil {
		return err
	}
	return w.kv.PutAll(context.Background(), map[string][]byte{schema.PolicyKey(name): value, schema.PolicyRevisionKey: revision})
}

func cmdEtcd(_ *testscript.TestScript, w *world, args []string) error {
	switch args[0] {
	case "down", "up":
		w.kv.SetDown(args[0] == "down")
	case "break":
		w.kv.Break()
	default:
		return fmt.Errorf("etcd %s: want down, up or break", args[0])
	}
	return nil
}

func cmdGate(ts *testscript.TestScript, w *world, args []string) error {
	i := slices.IndexFunc(sources, func(s source) bool { return s.name == args[0] })
	if i < 0 {
		return fmt.Errorf("no source %s", args[0])
	}
	if w.gates.at(sources[i].prefix) == nil {
		w.gates.hold(sources[i].prefix)
	} else {
		w.gates.release(sources[i].prefix)
	}
	return nil
}

func cmdStart(_ *testscript.TestScript, w *world, _ []string) error { return w.start() }

func cmdCrash(_ *testscript.TestScript, w *world, _ []string) error { return w.end() }

func cmdSynced(_ *testscript.TestScript, w *world, args []string) error {
	return eventually(func() error {
		for _, s := range w.agent.store.Snapshot().Sources {
			if s.Name == args[0] && s.Synced {
				return nil
			}
		}
		return fmt.Errorf("source %s has not synced", args[0])
	})
}

func cmdGiven(_ *testscript.TestScript, w *world, args []string) error {
	earlier, err := wg.New(wg.Options{Name: tunnel, Client: w.wg})
	if err != nil {
		return err
	}
	peer := encryption.Peer{
		Node: args[1], Key: keyOf(args[1]), Endpoint: netip.MustParseAddrPort(args[2]),
		AllowedIPs: []netip.Prefix{netip.MustParsePrefix(args[3])},
	}
	return earlier.Ensure(context.Background(), wg.Config{
		PrivateKey: w.key, Port: mesh.WireGuardPort, Peers: map[mesh.Key]encryption.Peer{peer.Key: peer},
	})
}

var errPlanted = errors.New("planted")

func cmdFail(_ *testscript.TestScript, w *world, args []string) error {
	switch op := args[0]; {
	case op == wgtest.OpConfigure, op == wgtest.OpDevice:
		w.wg.FailNext(op, errPlanted)
	case slices.Contains(routetest.Ops, op):
		w.routes.FailNext(op, errPlanted)
	default:
		return fmt.Errorf("no operation %s", op)
	}
	return nil
}

func cmdBroken(_ *testscript.TestScript, w *world, args []string) error {
	return w.setFailing(args[0], errPlanted)
}

func cmdMended(_ *testscript.TestScript, w *world, args []string) error {
	return w.setFailing(args[0], nil)
}

func (w *world) setFailing(table string, err error) error {
	switch table {
	case "ipcache":
		w.ipcache.failWrites(err)
	case "policy":
		w.policy.failWrites(err)
	case "links":
		w.links.failWrites(err)
	default:
		return fmt.Errorf("no table %s", table)
	}
	return nil
}

func cmdFailing(_ *testscript.TestScript, w *world, args []string) error {
	return eventually(func() error {
		var failing []string
		for _, h := range w.agent.conductor.Health() {
			if h.Err != nil {
				failing = append(failing, h.Name)
			}
		}
		if args[0] == "none" && len(failing) == 0 || slices.Contains(failing, args[0]) {
			return nil
		}
		return fmt.Errorf("failing steps are %v", failing)
	})
}

func cmdWant(ts *testscript.TestScript, w *world, args []string) error {
	return eventually(func() error { return cmdStill(ts, w, args) })
}

func cmdStill(ts *testscript.TestScript, w *world, args []string) error {
	got, err := w.read(args[0])
	if err != nil {
		return err
	}
	if want := ts.ReadFile(args[1]); got != want {
		return fmt.Errorf("%s is:\n%swant %s:\n%s", args[0], got, args[1], want)
	}
	return nil
}

// read renders what the kernel holds.
func (w *world) read(table string) (string, error) {
	switch table {
	case "peers":
		_, peers, _ := strings.Cut(w.wg.String(), "\n") // the first line is about the device
		return peers, nil
	case "routes":
		return w.routes.String(), nil
	case "ipcache":
		return lines(w.ipcache.list(), func(p netip.Prefix, v datapath.Peer) string {
			return fmt.Sprintf("%s %s", p, letterOf(v.Identity))
		}), nil
	case "policy":
		return lines(w.policy.list(), verdictLine), nil
	case "links":
		return lines(w.links.list(), func(name string, _ bool) string { return name }), nil
	}
	return "", fmt.Errorf("no table %s", table)
}

func verdictLine(k policy.Key, e policy.Entry) string {
	verdict, peer := "allow", "any"
	if e.Deny {
		verdict = "deny"
	}
	if k.Identity != policy.AnyIdentity {
		peer = letterOf(k.Identity)
	}
	return fmt.Sprintf("%s %s %d/%d %s", k.Direction, peer, k.Port, k.Protocol, verdict)
}

// lines renders a table, sorted.
func lines[K comparable, V any](m map[K]V, line func(K, V) string) string {
	var out []string
	for k, v := range maps.All(m) {
		out = append(out, line(k, v)+"\n")
	}
	slices.Sort(out)
	return strings.Join(out, "")
}
