package loader

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// userOf returns a program that uses a map, as programs of the version that made
// it do. It lets everything pass.
func userOf(t testing.TB, m *ebpf.Map) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "from_netdev", Type: ebpf.SchedCLS, License: "BSD",
		Instructions: asm.Instructions{asm.LoadMapPtr(asm.R1, m.FD()), asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

func pinnedMap(name string) bool {
	_, err := os.Stat(filepath.Join(mapDir(testRoot), name))
	return err == nil
}

// flowTable is a table of flows by the local port, of TCP unless it says other.
type flowTable map[uint16]bpfobj.PlexusCtValue

const (
	tcpSyn, tcpOpen, tcpClosing = 1, 2, 3 // enum tcp_state
	replied                     = 1       // CT_REPLY_SEEN
)

// ctKey is the key of the flow of us and a peer with a local port. The last digit
// of the port says which protocol it has.
func ctKey(port uint16) bpfobj.PlexusCtKey {
	k := bpfobj.PlexusCtKey{
		Local: bpfobj.AddrOf(addrPort(families[0].us, 0).Addr()), Remote: bpfobj.AddrOf(addrPort(families[0].peer, 0).Addr()),
		LocalPort: bpfobj.NetworkOrder(port), RemotePort: bpfobj.NetworkOrder(1000), Protocol: tcp,
	}
	switch port % 10 {
	case 1:
		k.Protocol = udp
	case 2:
		k.Protocol = unix.IPPROTO_ICMP
	case 3:
		k.Protocol = unix.IPPROTO_SCTP
	}
	return k
}

// ctValue is a flow that was opened towards us, whose time is over in left.
func ctValue(t testing.TB, state, flags uint8, left time.Duration) bpfobj.PlexusCtValue {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	expires := max(0, now.Nano()+int64(left)) // the host may be younger than what is over
	return bpfobj.PlexusCtValue{TcpState: state, Flags: flags, Expires: uint64(expires), PolicyPort: bpfobj.NetworkOrder(22)}
}

func (f flowTable) write(t testing.TB, m *ebpf.Map) {
	t.Helper()
	for port, v := range f {
		k := ctKey(port)
		if err := m.Put(&k, &v); err != nil {
			t.Fatal(err)
		}
	}
}

func readFlows(t testing.TB, m *ebpf.Map) flowTable {
	t.Helper()
	out := flowTable{}
	var k bpfobj.PlexusCtKey
	var v bpfobj.PlexusCtValue
	it := m.Iterate()
	for it.Next(&k, &v) {
		out[bpfobj.NetworkOrder(k.LocalPort)] = v
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// olderFlows pins the table of an older version, and returns it with a program
// that uses it.
func olderFlows(t testing.TB, flows flowTable) (*ebpf.Map, *ebpf.Program) {
	t.Helper()
	if err := makeRoot(testRoot); err != nil {
		t.Fatal(err)
	}
	m := newMap(t, &ebpf.MapSpec{Name: "plexus_ct_v1", Type: ebpf.LRUHash, KeySize: 40, ValueSize: 64, MaxEntries: 4096})
	flows.write(t, m)
	if err := m.Pin(filepath.Join(mapDir(testRoot), flowsV1)); err != nil {
		t.Fatal(err)
	}
	return m, userOf(t, m)
}

// TestFlowsAreCarriedOver upgrades a host whose programs still write the table of
// an older version, on two links one after the other.
func TestFlowsAreCarriedOver(t *testing.T) {
	for _, how := range attachments {
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				newCable(t, "plx0")
				newCable(t, "plx1")
				open := flowTable{
					20: ctValue(t, tcpOpen, replied, time.Hour), 23: ctValue(t, tcpOpen, replied, time.Hour), 31: ctValue(t, 0, replied, time.Minute),
					40: {TcpState: tcpOpen, Flags: replied, Reason: 1, Expires: ctValue(t, 0, 0, time.Hour).Expires},
				}
				opening := flowTable{
					50: ctValue(t, tcpSyn, 0, time.Minute), 60: ctValue(t, tcpOpen, 0, time.Hour), 70: ctValue(t, tcpClosing, replied, 9*time.Second),
					51: ctValue(t, 0, 0, time.Minute), 52: ctValue(t, 0, replied, 20*time.Second),
				}
				all := flowTable{80: ctValue(t, tcpOpen, replied, -time.Second)}
				maps.Copy(all, open)
				maps.Copy(all, opening)
				older, prog := olderFlows(t, all)
				links := []datapath.Link{{Name: "plx0"}, {Name: "plx1"}}
				for _, l := range links {
					attachOlder(t, l.Name, prog, how.forbidTCX)
				}
				d := openWith(t, how.forbidTCX)
				checkFlows(t, "after opening", d, open, opening)

				begun := flowTable{90: ctValue(t, tcpOpen, replied, 2*time.Hour), 50: ctValue(t, tcpOpen, replied, 6*time.Hour)}
				begun.write(t, older)
				maps.Copy(open, begun)
				delete(opening, 50)
				if err := d.EnsureLinks(links[:1]); err != nil {
					t.Fatal(err)
				}
				checkFlows(t, "after half of the programs", d, open, opening)

				flowTable{20: ctValue(t, tcpOpen, replied, 5*time.Hour)}.write(t, d.objs.PlexusCtV2) // a packet on the first link
				open[20] = readFlows(t, d.objs.PlexusCtV2)[20]
				last := flowTable{100: ctValue(t, tcpSyn, 0, time.Minute)}
				last.write(t, older)
				maps.Copy(opening, last)
				if !pinnedMap(flowsV1) {
					t.Error("the older table is gone while a program writes it")
				}
				if err := d.EnsureLinks(links); err != nil {
					t.Fatal(err)
				}
				checkFlows(t, "after all programs", d, open, opening)
				if pinnedMap(flowsV1) {
					t.Error("the older table outlived the programs that write it")
				}
			})
		})
	}
}

func checkFlows(t *testing.T, when string, d *Datapath, open, opening flowTable) {
	t.Helper()
	if diff := cmp.Diff(open, readFlows(t, d.objs.PlexusCtV2)); diff != "" {
		t.Errorf("%s: open flows (-want +got):\n%s", when, diff)
	}
	if diff := cmp.Diff(opening, readFlows(t, d.objs.PlexusOpeningV1)); diff != "" {
		t.Errorf("%s: flows that are opening (-want +got):\n%s", when, diff)
	}
}

// TestCarriedFlowKeepsItsDirection shows what carrying over is for: policy lets
// the peer open, and we speak first.
func TestCarriedFlowKeepsItsDirection(t *testing.T) {
	netnstest.Run(t, func() {
		olderFlows(t, flowTable{20: {TcpState: tcpOpen, Flags: replied, PolicyPort: bpfobj.NetworkOrder(22), Expires: ctValue(t, 0, 0, time.Hour).Expires}})
		h := newHost(t)
		h.load(rules{port(0, policy.Ingress, tcp, 22): {Rule: 1}}.set()) // what ctValue was judged by
		ours := packet{src: families[0].us, dst: families[0].peer, proto: tcp, sport: 20, dport: 1000, flags: ack}
		if got := h.toNetdev(ours.frame()); got != pass {
			t.Errorf("our side first: verdict %d", got)
		}
		if ours.sport = 30; h.toNetdev(ours.frame()) != drop {
			t.Error("a flow that nobody knew passed: the policy of this test forbids nothing")
		}
	})
}

// TestCarriedFlowsFindRoom carries more open flows over than there may be.
func TestCarriedFlowsFindRoom(t *testing.T) {
	netnstest.Run(t, func() {
		many := flowTable{}
		for i := range uint16(1500) {
			many[10*i+10] = ctValue(t, tcpOpen, replied, time.Hour)
		}
		olderFlows(t, many)
		d := open(t)
		kept, rest := readFlows(t, d.objs.PlexusCtV2), readFlows(t, d.objs.PlexusOpeningV1)
		if len(kept) != 1024 || len(rest) != len(many)-1024 {
			t.Errorf("%d flows among the open ones and %d elsewhere, want 1024 and all others", len(kept), len(rest))
		}
	})
}

func TestOpenRefusesForeignFlows(t *testing.T) {
	netnstest.Run(t, func() {
		if err := makeRoot(testRoot); err != nil {
			t.Fatal(err)
		}
		m := newMap(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 40, ValueSize: 32, MaxEntries: 64})
		if err := m.Pin(filepath.Join(mapDir(testRoot), flowsV1)); err != nil {
			t.Fatal(err)
		}
		if d, err := Open(testOptions()); err == nil {
			t.Errorf("opened %v over flows that it cannot read", d.Close())
		}
	})
}

// TestOlderVersionFindsFlows stops as for a downgrade, and then goes on as if
// there were none.
func TestOlderVersionFindsFlows(t *testing.T) {
	netnstest.Run(t, func() {
		newCable(t, "plx0")
		d := open(t)
		known := flowTable{20: ctValue(t, tcpOpen, replied, time.Hour), 31: ctValue(t, 0, replied, time.Minute)}
		starting := flowTable{50: ctValue(t, tcpSyn, 0, time.Minute)}
		known.write(t, d.objs.PlexusCtV2)
		starting.write(t, d.objs.PlexusOpeningV1)
		flowTable{80: ctValue(t, tcpOpen, replied, -time.Second)}.write(t, d.objs.PlexusCtV2)
		if err := d.LeaveForOlder(); err != nil {
			t.Fatal(err)
		}
		older, err := ebpf.LoadPinnedMap(filepath.Join(mapDir(testRoot), flowsV1), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer older.Close()
		want := flowTable{}
		maps.Copy(want, known)
		maps.Copy(want, starting)
		if diff := cmp.Diff(want, readFlows(t, older)); diff != "" {
			t.Errorf("left for an older version (-want +got):\n%s", diff)
		}
		if older.Type() != ebpf.LRUHash || older.MaxEntries() != 1024 {
			t.Errorf("left %s, which an older version would not adopt", older)
		}
		testSameVersionGoesOn(t, d, known)
	})
}

// testSameVersionGoesOn has programs take a packet of one flow while no daemon
// runs: what was left is older than that.
func testSameVersionGoesOn(t *testing.T, d *Datapath, known flowTable) {
	t.Helper()
	known[20] = ctValue(t, tcpOpen, replied, 6*time.Hour)
	known.write(t, d.objs.PlexusCtV2)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	next := open(t)
	if err := next.EnsureLinks([]datapath.Link{{Name: "plx0"}}); err != nil {
		t.Fatal(err)
	}
	if got := readFlows(t, next.objs.PlexusCtV2)[20]; got != known[20] {
		t.Errorf("a flow went back to what was left: %+v, want %+v", got, known[20])
	}
	if pinnedMap(flowsV1) {
		t.Error("what was left for an older version outlived the start of this one")
	}
}
