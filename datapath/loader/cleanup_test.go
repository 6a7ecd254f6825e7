package loader

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

func TestCleanupLeavesNothing(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				if err := Cleanup(testRoot); err != nil {
					t.Errorf("clean up where nothing is: %v", err)
				}
				wire, d := newCable(t, "plx0"), openWith(t, how.forbidTCX)
				if err := d.EnsureLinks([]datapath.Link{{Name: "plx0"}, {Name: "farplx0", Tunnel: true}}); err != nil {
					t.Fatal(err)
				}
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if err := Cleanup(testRoot); err != nil {
						t.Errorf("clean up: %v", err)
					}
				}
				if _, err := os.Stat(testRoot); !os.IsNotExist(err) {
					t.Errorf("%s is still there: %v", testRoot, err)
				}
				for _, name := range []string{"plx0", "farplx0"} {
					qdiscs, err := netlink.QdiscList(linkByName(t, name))
					if err != nil || hasClsact(qdiscs) {
						t.Errorf("qdiscs of %s: %v, %v", name, qdiscs, err)
					}
				}
				sock := listen(t, "192.0.2.1")
				if err := wire.send(attachable(1)); err != nil || !arrives(sock, 1) {
					t.Errorf("a program is still attached (%v)", err)
				}
			})
		})
	}
}

func hasClsact(qdiscs []netlink.Qdisc) bool {
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			return true
		}
	}
	return false
}

// TestCleanupKeepsWhatIsNotOurs leaves an operator's filter and pin alone.
func TestCleanupKeepsWhatIsNotOurs(t *testing.T) {
	netnstest.Run(t, func() {
		wire, d := newCable(t, "plx0"), openWith(t, true)
		if err := d.EnsureLinks([]datapath.Link{{Name: "plx0"}}); err != nil {
			t.Fatal(err)
		}
		if err := netlink.FilterAdd(operatorsFilter(t, wire.near)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(testRoot+"/maps/theirs", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := Cleanup(testRoot); err != nil {
			t.Fatal(err)
		}
		fs, err := netlink.FilterList(wire.near, netlink.HANDLE_MIN_INGRESS)
		if err != nil || len(fs) != 1 || fs[0].(*netlink.BpfFilter).Name != "theirs" {
			t.Errorf("filters left: %v, %v", fs, err)
		}
		if _, err := os.Stat(testRoot + "/maps/theirs"); err != nil {
			t.Error(err)
		}
	})
}

// operatorsFilter returns a filter that lets everything go on, and is not ours.
func operatorsFilter(t testing.TB, dev netlink.Link) *netlink.BpfFilter {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "theirs", Type: ebpf.SchedCLS, License: "BSD",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: dev.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS,
			Priority: filterPriority, Handle: 5, Protocol: unix.ETH_P_ALL,
		},
		Fd: prog.FD(), Name: "theirs", DirectAction: true,
	}
}
