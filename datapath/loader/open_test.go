package loader

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

func TestOpenWithoutBPFFileSystem(t *testing.T) {
	netnstest.Run(t, func() {
		opts := testOptions()
		opts.Root = filepath.Join(t.TempDir(), "plexus")
		_, err := Open(opts)
		if err == nil || !strings.Contains(err.Error(), "mount -t bpf bpf /sys/fs/bpf") {
			t.Errorf("error %v does not say how to mount one", err)
		}
		left, err := os.ReadDir(filepath.Dir(opts.Root))
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestOpenWithoutPrivilege(t *testing.T) {
	netnstest.Run(t, func() {
		if err := os.Chmod("/sys/fs/bpf", 0o777); err != nil {
			t.Fatal(err)
		}
		// The thread is thrown away after the test, and its user with it.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			t.Fatal(errno)
		}
		_, err := Open(testOptions())
		if err == nil || !strings.Contains(err.Error(), "run as root") {
			t.Errorf("error %v does not say what is missing", err)
		}
	})
}

func TestOpenNeedsOptions(t *testing.T) {
	for _, opts := range []Options{{}, {Root: testRoot}, {Logger: slog.New(slog.DiscardHandler)}} {
		if d, err := Open(opts); err == nil || d != nil {
			t.Errorf("opened with %+v", opts)
		}
	}
}

// TestOpenRefusesForeignMaps meets a map of our name that has another layout.
func TestOpenRefusesForeignMaps(t *testing.T) {
	for _, name := range []string{bpfobj.PlexusMapPlexusIpcacheV1, bpfobj.PlexusMapPlexusCtV2, bpfobj.PlexusMapPlexusStateV1} {
		t.Run(name, func(t *testing.T) {
			netnstest.Run(t, func() {
				if err := makeRoot(testRoot); err != nil {
					t.Fatal(err)
				}
				m := newMap(t, &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1024})
				pin := filepath.Join(mapDir(testRoot), name)
				if err := m.Pin(pin); err != nil {
					t.Fatal(err)
				}
				_, err := Open(testOptions())
				if !errors.Is(err, ebpf.ErrMapIncompatible) || !strings.Contains(err.Error(), pin) || !strings.Contains(err.Error(), "plexusd cleanup") {
					t.Errorf("error %v does not name the map and the remedy", err)
				}
				if err := Cleanup(testRoot); err != nil {
					t.Fatal(err)
				}
				open(t)
			})
		})
	}
}

// TestOpenAdoptsMaps shows that what one run wrote is there for the next.
func TestOpenAdoptsMaps(t *testing.T) {
	netnstest.Run(t, func() {
		h := newHost(t)
		h.peers(map[string]datapath.Peer{"192.0.2.9/32": {Identity: 300}})
		rev := h.load(rules{port(300, policy.Ingress, tcp, 22): {Rule: 1}}.set())
		p := packet{src: "192.0.2.9", dst: "192.0.2.1", proto: tcp, sport: 1000, dport: 22, flags: syn}
		h.fromNetdev(p.frame())
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		next := newHost(t)
		if got, err := next.maps.Policy.Revision(); err != nil || got != rev {
			t.Errorf("revision %d, %v; want %d", got, err, rev)
		}
		if got := next.toNetdev(p.reply().frame()); got != pass {
			t.Errorf("reply after a restart: verdict %d", got)
		}
	})
}

// TestFlowTableKeepsItsSize shows that a new size does not cost the known flows,
// and that the user hears of it.
func TestFlowTableKeepsItsSize(t *testing.T) {
	netnstest.Run(t, func() {
		if err := open(t).Close(); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		opts := testOptions()
		opts.CTSize, opts.Logger = 2048, slog.New(slog.NewTextHandler(&log, nil))
		d, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if n := d.objs.PlexusCtV2.MaxEntries(); n != 1024 || !strings.Contains(log.String(), "have=1024 want=2048") {
			t.Errorf("size %d, log %q", n, log.String())
		}
	})
}

func TestEnsureRefusesUnreadableLinks(t *testing.T) {
	if _, err := variantFor(&netlink.LinkAttrs{Name: "ib0", EncapType: "infiniband"}); err == nil ||
		!strings.Contains(err.Error(), "ib0") || !strings.Contains(err.Error(), "infiniband") {
		t.Errorf("error %v does not name link and header", err)
	}
}
