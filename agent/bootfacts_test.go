package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath/device"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
)

var sameAddrs = cmpopts.EquateComparable(netip.Addr{})

func uplink(name string, addrs ...string) device.Uplink {
	u := device.Uplink{Name: name}
	for _, a := range addrs {
		u.Addresses = append(u.Addresses, netip.MustParseAddr(a))
	}
	return u
}

// A host that shuts down takes its interfaces and its SSH server away first.
func TestWhatIsGoneIsKeptInMindForADay(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := bootFacts{}.withLinks([]device.Uplink{uplink("eth0", "192.0.2.1"), uplink("eth1", "198.51.100.1")}, now).withSSH([]uint16{22, 2222}, now)
	f = f.withLinks([]device.Uplink{uplink("eth1", "198.51.100.2")}, now).withSSH(nil, now)
	want := bootFacts{
		Links: map[string]bootLink{
			"eth0": {Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Gone: now},
			"eth1": {Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.2")}},
		},
		SSH: map[uint16]bootPort{22: {Gone: now}, 2222: {Gone: now}},
	}
	if diff := cmp.Diff(want, f, sameAddrs); diff != "" {
		t.Errorf("just after: want -, got +:\n%s", diff)
	}
	if got := f.addresses(); len(got) != 2 || !slices.Equal(f.ports(), []uint16{22, 2222}) {
		t.Errorf("addresses %v, ports %v", got, f.ports())
	}
	f = f.withLinks([]device.Uplink{uplink("eth1")}, now.Add(keepGone/2)).withSSH([]uint16{22}, now.Add(keepGone/2))
	if _, kept := f.Links["eth0"]; !kept || len(f.SSH) != 2 || f.SSH[22] != (bootPort{}) {
		t.Errorf("half a day later: %+v", f)
	}
	f = f.withLinks(nil, now.Add(keepGone+time.Second)).withSSH([]uint16{22}, now.Add(keepGone+time.Second))
	if _, kept := f.Links["eth0"]; kept || len(f.SSH) != 1 || len(f.Links) != 1 {
		t.Errorf("a day later: %+v", f)
	}
}

func TestBootFactsAreOnDiskForTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		note := func(f func(r *reminder)) {
			r, err := openReminder(dir, kvtest.Logger(t))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- r.Run(ctx) }()
			f(r)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		note(func(r *reminder) {
			r.links([]device.Uplink{uplink("eth0", "192.0.2.1", "2001:db8::1")})
			settled(noteWithin)
			if _, err := os.Stat(bootFile(dir)); err != nil {
				t.Errorf("not written while it runs: %v", err)
			}
			r.ssh([]uint16{22})
		})
		note(func(r *reminder) {
			if len(r.facts.addresses()) != 2 || !slices.Equal(r.facts.ports(), []uint16{22}) {
				t.Errorf("the next run knows %+v", r.facts)
			}
		})
		info, err := os.Stat(bootFile(dir))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
}

func TestADiskThatIsFullDelaysWhatABootMustKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "later")
		r := &reminder{path: bootFile(dir), logger: kvtest.Logger(t), clock: time.Now, news: make(chan struct{}, 1)}
		go r.Run(t.Context())
		r.links([]device.Uplink{uplink("eth0")})
		settled(time.Minute)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		settled(noteWithin)
		if text, err := os.ReadFile(bootFile(dir)); err != nil || !strings.Contains(string(text), "eth0") {
			t.Errorf("on disk is %q, %v", text, err)
		}
	})
}

func TestDamagedBootFactsAreNotedAnew(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(bootFile(dir), []byte(`{"links": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := openReminder(dir, kvtest.Logger(t))
	if err != nil || len(r.facts.Links) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
