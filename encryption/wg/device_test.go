package wg_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/encryption/wg/wgtest"
	"github.com/plexusmesh/plexus/mesh"
)

// peer returns the peer whose key starts with id; allowed is split at commas.
func peer(id byte, endpoint, allowed string) encryption.Peer {
	p := encryption.Peer{Node: "m/" + string(id), Key: mesh.Key{id}}
	if endpoint != "" {
		p.Endpoint = netip.MustParseAddrPort(endpoint)
	}
	if allowed != "" {
		for a := range strings.SplitSeq(allowed, ",") {
			p.AllowedIPs = append(p.AllowedIPs, netip.MustParsePrefix(a))
		}
	}
	return p
}

func config(key encryption.PrivateKey, peers ...encryption.Peer) wg.Config {
	c := wg.Config{PrivateKey: key, Port: 51871, FirewallMark: 7, Peers: make(map[mesh.Key]encryption.Peer)}
	for _, p := range peers {
		c.Peers[p.Key] = p
	}
	return c
}

func open(t *testing.T, k *wgtest.Kernel) *wg.Device {
	t.Helper()
	d, err := wg.New(wg.Options{Name: "wg9", Client: k})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// pass is one round of the conductor.
func pass(t *testing.T, d *wg.Device, c wg.Config, orphans bool) error {
	t.Helper()
	return errors.Join(d.Ensure(t.Context(), c), d.Prune(t.Context(), c.Peers, orphans))
}

// TestTransitions takes one device through every step in order, so that each
// state is reached from another.
func TestTransitions(t *testing.T) {
	k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
	d := open(t, k)
	for _, step := range []struct {
		name  string
		peers []encryption.Peer
		want  string
	}{
		{"nobody", nil, ""},
		{"two peers", []encryption.Peer{peer('A', "192.0.2.1:1", "10.0.0.1/32,fd00::1/128"), peer('B', "[2001:db8::2]:2", "10.0.0.2/32")},
			"A 192.0.2.1:1 keepalive=0s 10.0.0.1/32,fd00::1/128\nB [2001:db8::2]:2 keepalive=0s 10.0.0.2/32\n"},
		{"a prefix moves", []encryption.Peer{peer('A', "192.0.2.1:1", "10.0.0.1/32"), peer('B', "[2001:db8::2]:2", "10.0.0.2/32,fd00::1/128")},
			"A 192.0.2.1:1 keepalive=0s 10.0.0.1/32\nB [2001:db8::2]:2 keepalive=0s 10.0.0.2/32,fd00::1/128\n"},
		{"prefixes swap", []encryption.Peer{peer('A', "192.0.2.1:1", "10.0.0.2/32"), peer('B', "[2001:db8::2]:2", "10.0.0.1/32,fd00::1/128")},
			"A 192.0.2.1:1 keepalive=0s 10.0.0.2/32\nB [2001:db8::2]:2 keepalive=0s 10.0.0.1/32,fd00::1/128\n"},
		{"a prefix goes", []encryption.Peer{peer('A', "192.0.2.1:1", "10.0.0.2/32"), peer('B', "[2001:db8::2]:2", "10.0.0.1/32")},
			"A 192.0.2.1:1 keepalive=0s 10.0.0.2/32\nB [2001:db8::2]:2 keepalive=0s 10.0.0.1/32\n"},
		{"an endpoint changes", []encryption.Peer{peer('A', "192.0.2.9:9", "10.0.0.2/32"), peer('B', "", "10.0.0.1/32")},
			"A 192.0.2.9:9 keepalive=0s 10.0.0.2/32\nB [2001:db8::2]:2 keepalive=0s 10.0.0.1/32\n"},
		{"a key rotates", []encryption.Peer{peer('C', "192.0.2.9:9", "10.0.0.2/32"), peer('B', "", "10.0.0.1/32")},
			"B [2001:db8::2]:2 keepalive=0s 10.0.0.1/32\nC 192.0.2.9:9 keepalive=0s 10.0.0.2/32\n"},
		{"nobody again", nil, ""},
	} {
		c := config(key, step.peers...)
		if err := pass(t, d, c, false); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff("port=51871 mark=7 key=true\n"+step.want, k.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		before := k.Count(wgtest.OpConfigure)
		if err := pass(t, d, c, true); err != nil {
			t.Fatalf("%s, again: %v", step.name, err)
		}
		if n := k.Count(wgtest.OpConfigure) - before; n != 0 {
			t.Errorf("%s: %d writes in a pass that changes nothing", step.name, n)
		}
	}
}

// TestAnyRoute takes a device through random states: where it ends depends on
// the last one alone.
func TestAnyRoute(t *testing.T) {
	key := encryption.NewPrivateKey()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		travelled, direct := wgtest.New("wg9"), wgtest.New("wg9")
		d := open(t, travelled)
		var last wg.Config
		for range 1 + r.IntN(6) {
			last = randomConfig(r, key)
			if r.IntN(4) == 0 { // the daemon restarts
				d = open(t, travelled)
			}
			if err := pass(t, d, last, r.IntN(2) == 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(pass(t, d, last, true), pass(t, open(t, direct), last, true)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(direct.String(), travelled.String()); diff != "" {
			t.Fatalf("seed %d (-direct +travelled):\n%s", seed, diff)
		}
	}
}

// randomConfig draws up to 4 peers and deals 6 prefixes among them.
func randomConfig(r *rand.Rand, key encryption.PrivateKey) wg.Config {
	var peers []encryption.Peer
	for id := byte('A'); id < 'E'; id++ {
		if r.IntN(3) > 0 {
			peers = append(peers, peer(id, fmt.Sprintf("192.0.2.%d:1", 1+r.IntN(3)), ""))
		}
	}
	for i := range 6 {
		if at := r.IntN(5); at < len(peers) {
			peers[at].AllowedIPs = append(peers[at].AllowedIPs, netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/32", i)))
		}
	}
	return config(key, peers...)
}

func TestRoamedEndpointStays(t *testing.T) {
	configured, roamed, moved := "192.0.2.1:1", netip.MustParseAddrPort("198.51.100.7:7"), "192.0.2.2:2"
	for _, tt := range []struct {
		name    string
		heard   time.Duration // ago
		restart bool          // of the daemon, after the peer roamed
		next    string        // configured endpoint of the next pass
		want    string
	}{
		{"works, same endpoint", time.Minute, false, configured, roamed.String()},
		{"works, daemon restarts", time.Minute, true, configured, roamed.String()},
		{"works, endpoint changed", time.Minute, false, moved, moved},
		{"works, endpoint withdrawn", time.Minute, false, "", roamed.String()},
		{"dead, same endpoint", 4 * time.Minute, false, configured, configured},
		{"dead, daemon restarts", 4 * time.Minute, true, configured, configured},
		{"dead, endpoint withdrawn", 4 * time.Minute, false, "", roamed.String()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
				d := open(t, k)
				if err := pass(t, d, config(key, peer('A', configured, "")), true); err != nil {
					t.Fatal(err)
				}
				k.Hear(mesh.Key{'A'}, roamed, time.Now())
				time.Sleep(tt.heard) // of the bubble's clock
				if tt.restart {
					d = open(t, k)
				}
				if err := pass(t, d, config(key, peer('A', tt.next, "")), true); err != nil {
					t.Fatal(err)
				}
				peers, err := d.ListPeers(t.Context())
				if err != nil || len(peers) != 1 || peers[0].Endpoint.String() != tt.want {
					t.Errorf("peers %v, %v; want one at %s", peers, err, tt.want)
				}
			})
		})
	}
}

// TestReplacedDeviceGreets loses the device under a running daemon: its peers
// still have sessions with the one that was.
func TestReplacedDeviceGreets(t *testing.T) {
	k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
	d, c := open(t, k), config(key, peer('A', "192.0.2.1:1", "10.0.0.1/32"), peer('B', "192.0.2.2:1", "10.0.0.2/32"))
	if err := pass(t, d, c, true); err != nil {
		t.Fatal(err)
	}
	before := k.String()
	if k.Greets() != 0 {
		t.Error("a new device greets peers that may not know this host yet: the first handshake would be lost, and 5 s with it")
	}
	k.Replace()
	if err := pass(t, d, c, true); err != nil {
		t.Fatal(err)
	}
	if k.Greets() != 2 {
		t.Errorf("%d peers greeted, want 2", k.Greets())
	}
	k.Replace() // and the daemon with it, as in a reboot
	c.Known = true
	if err := pass(t, open(t, k), c, true); err != nil {
		t.Fatal(err)
	}
	if k.Greets() != 4 {
		t.Errorf("%d peers greeted after a reboot, want 2 more", k.Greets()-2)
	}
	if diff := cmp.Diff(before, k.String()); diff != "" {
		t.Errorf("the new device differs from the old (-old +new):\n%s", diff)
	}
}

// TestPruneNeedsNoEnsure takes a peer away while something keeps Ensure from
// being called: revocation must not wait for what hinders adding.
func TestPruneNeedsNoEnsure(t *testing.T) {
	k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
	d, both := open(t, k), config(key, peer('A', "", "10.0.0.1/32"), peer('B', "", "10.0.0.2/32"))
	if err := pass(t, d, both, true); err != nil {
		t.Fatal(err)
	}
	if err := d.Prune(t.Context(), config(key, peer('A', "", "10.0.0.1/32")).Peers, false); err != nil {
		t.Fatal(err)
	}
	peers, err := d.ListPeers(t.Context())
	if err != nil || len(peers) != 1 || peers[0].Key != (mesh.Key{'A'}) {
		t.Errorf("peers %v, %v; want A alone", peers, err)
	}
}

// TestOrphansWait starts a second run over what a first one left.
func TestOrphansWait(t *testing.T) {
	k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
	left := config(key, peer('A', "", "10.0.0.1/32,10.0.0.3/32"), peer('B', "", "10.0.0.2/32"))
	if err := pass(t, open(t, k), left, true); err != nil {
		t.Fatal(err)
	}
	d := open(t, k)
	if err := d.Prune(t.Context(), nil, false); err != nil || strings.Count(k.String(), "\n") != 3 {
		t.Fatalf("prune before this run wanted anything: %v\n%s", err, k)
	}
	for _, step := range []struct {
		name    string
		want    wg.Config
		orphans bool
		peers   string
	}{
		{"sources are missing", config(key, peer('A', "", "10.0.0.1/32")), false,
			"A <nil> keepalive=0s 10.0.0.1/32,10.0.0.3/32\nB <nil> keepalive=0s 10.0.0.2/32\n"},
		{"what this run wanted goes at once", config(key, peer('A', "", "")), false,
			"A <nil> keepalive=0s 10.0.0.3/32\nB <nil> keepalive=0s 10.0.0.2/32\n"},
		{"all sources are there", config(key, peer('A', "", "")), true, "A <nil> keepalive=0s \n"},
	} {
		if err := pass(t, d, step.want, step.orphans); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("port=51871 mark=7 key=true\n"+step.peers, k.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestFailuresHeal plants a failure of each call, at each step, and expects the
// state that is reached without it after one more pass.
func TestFailuresHeal(t *testing.T) {
	key := encryption.NewPrivateKey()
	from := config(key, peer('A', "192.0.2.1:1", "10.0.0.1/32,10.0.0.9/32"), peer('B', "", "10.0.0.2/32"))
	to := config(encryption.NewPrivateKey(), peer('A', "192.0.2.3:3", "10.0.0.1/32,10.0.0.2/32"), peer('C', "", "10.0.0.3/32"), peer('D', "", ""))
	run := func(t *testing.T, plant func(*wgtest.Kernel, *wg.Device)) string {
		k := wgtest.New("wg9")
		d := open(t, k)
		if err := pass(t, d, from, false); err != nil {
			t.Fatal(err)
		}
		plant(k, d)
		if err := pass(t, d, to, false); err != nil {
			t.Fatalf("pass after the failure: %v", err)
		}
		return k.String()
	}
	want := run(t, func(*wgtest.Kernel, *wg.Device) {})
	broken := errors.New("planted")
	for _, op := range []string{wgtest.OpDevice, wgtest.OpConfigure} {
		for _, step := range []struct {
			name string
			do   func(*wg.Device) error
		}{
			{"ensure", func(d *wg.Device) error { return d.Ensure(t.Context(), to) }},
			{"prune", func(d *wg.Device) error {
				if err := d.Ensure(t.Context(), to); err != nil {
					return err
				}
				return d.Prune(t.Context(), to.Peers, false)
			}},
		} {
			t.Run(step.name+" "+op, func(t *testing.T) {
				got := run(t, func(k *wgtest.Kernel, d *wg.Device) {
					if step.name == "prune" {
						if err := d.Ensure(t.Context(), to); err != nil {
							t.Fatal(err)
						}
					}
					k.FailNext(op, broken)
					if err := step.do(d); !errors.Is(err, broken) {
						t.Fatalf("error %v, want the planted one", err)
					}
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("end state (-without +with failure):\n%s", diff)
				}
			})
		}
	}
}

// TestOnePeerStopsNoOther fails the call with all peers; each alone goes through.
func TestOnePeerStopsNoOther(t *testing.T) {
	k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
	d := open(t, k)
	if err := d.Ensure(t.Context(), config(key)); err != nil {
		t.Fatal(err)
	}
	k.FailNext(wgtest.OpConfigure, errors.New("planted"))
	if err := d.Ensure(t.Context(), config(key, peer('A', "", ""), peer('B', "", ""))); err != nil {
		t.Errorf("ensure: %v", err)
	}
	if n := strings.Count(k.String(), "\n"); n != 3 {
		t.Errorf("device after a refused batch:\n%s", k)
	}
}

func TestErrorsHideTheKey(t *testing.T) {
	k, key := wgtest.New("wg9"), encryption.NewPrivateKey()
	k.FailNext(wgtest.OpConfigure, errors.New("planted"))
	err := open(t, k).Ensure(t.Context(), config(key))
	if err == nil || strings.Contains(err.Error(), key.Encode()) {
		t.Errorf("error %v; want one without the key", err)
	}
}
