package loader

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// before holds the programs of the last build in which all flows had one table:
// those that a host upgrades from, and goes back to.
const before = "testdata/programs-2026-11-22.o.gz"

// TestUpgradeUnderTraffic puts today's programs in the place of those before, and
// those before back, while numbers go both ways in flows that each only one side
// may open, and while both sides try what neither may.
func TestUpgradeUnderTraffic(t *testing.T) {
	var ways []bool // to attach, that were taken: whether by tcx
	for _, how := range attachments {
		if len(ways) == 1 && !ways[0] {
			break // without tcx, the second way is the first
		}
		t.Run(how.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				s := &succession{t: t, town: newTown(t), forbidTCX: how.forbidTCX}
				denied := s.town.knocks(t)
				s.letEachOpen()
				s.older()
				denied.start()
				flows := s.town.flows(t)
				d := s.newer()
				flows.goOn(t)
				if err := d.LeaveForOlder(); err != nil { // as the daemon does at its end
					t.Fatal(err)
				}
				s.older()
				flows.goOn(t)
				flows.check(t)
				denied.check(t)
				ways = append(ways, s.byTCX())
			})
		})
	}
}

// succession is a host through its versions.
type succession struct {
	t         *testing.T
	town      *town
	forbidTCX bool
}

func (s *succession) open(source func(*Datapath, *ebpf.CollectionSpec, variant) (*bpfobj.PlexusPrograms, error)) *Datapath {
	s.t.Helper()
	opts := testOptions()
	opts.ForbidTCX, opts.programs = s.forbidTCX, source
	d, err := Open(opts)
	if err != nil {
		s.t.Fatalf("%+v", err)
	}
	s.t.Cleanup(func() { _ = d.Close() })
	return d
}

// letEachOpen lets each side open flows at the ports of the streams, which are
// the other side's to wait at.
func (s *succession) letEachOpen() {
	s.t.Helper()
	rules := rules{}
	for _, proto := range []uint8{tcp, udp} {
		for i := range streamPorts {
			rules[port(0, policy.Ingress, proto, nearPort+uint16(i))] = policy.Entry{Rule: 1}
			rules[port(0, policy.Egress, proto, farPort+uint16(i))] = policy.Entry{Rule: 2}
		}
	}
	d := s.open(func(*Datapath, *ebpf.CollectionSpec, variant) (*bpfobj.PlexusPrograms, error) {
		return &bpfobj.PlexusPrograms{}, nil // maps alone
	})
	if _, err := d.Maps().Policy.Load(rules.set()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *succession) byTCX() bool {
	_, err := os.Stat(tcxPin(testRoot, hook{device: nearDevice}))
	return err == nil
}

// older loads the programs before on whatever maps are pinned, and attaches them
// in the place of those that are attached.
func (s *succession) older() {
	s.t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		s.t.Fatal(err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(unpacked(s.t, before)))
	if err != nil {
		s.t.Fatal(err)
	}
	delete(spec.Programs, "from_tunnel")
	delete(spec.Programs, "to_tunnel")
	spec.Maps[flowsV1].MaxEntries = testOptions().CTSize
	programs, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: mapDir(testRoot)}})
	if err != nil {
		s.t.Fatalf("%+v", err)
	}
	defer programs.Close() // what is attached stays
	d := &Datapath{opts: Options{Root: testRoot, ForbidTCX: s.forbidTCX}}
	for _, h := range hooks(nearDevice, linkByName(s.t, nearDevice).Attrs().Index) {
		name := "to_netdev"
		if h.ingress {
			name = "from_netdev"
		}
		if err := d.ensureHook(h, programs.Programs[name]); err != nil {
			s.t.Fatal(err)
		}
	}
}

func unpacked(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// newer opens today's datapath as the daemon does, and attaches its programs.
func (s *succession) newer() *Datapath {
	s.t.Helper()
	d := s.open(func(d *Datapath, spec *ebpf.CollectionSpec, v variant) (*bpfobj.PlexusPrograms, error) {
		if v != ethernet {
			return &bpfobj.PlexusPrograms{}, nil
		}
		return verify(d, spec, v)
	})
	if err := d.EnsureLinks([]datapath.Link{{Name: nearDevice}}); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// Both ends of the cable, and which of their ports the other side may open.
const (
	nearDevice  = "plx0"
	farDevice   = "farplx0"
	nearPort    = 7000
	farPort     = 8000
	streamPorts = 4
	deniedPort  = 6666
)

// town is a host and another, each in a namespace of its own.
type town struct {
	near, far netns.NsHandle
}

// The addresses of both by family, near first.
var townAddrs = [][2]string{{"192.0.2.1", "192.0.2.9"}, {"2001:db8::1", "2001:db8::9"}}

func newTown(t *testing.T) *town {
	t.Helper()
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	there, err := netns.New()
	if err == nil {
		err = netns.Set(here)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close(); there.Close() })
	w := &town{near: here, far: there}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nearDevice}, PeerName: farDevice, PeerNamespace: netlink.NsFd(there)}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Fatal(err)
	}
	w.settle(t, nearDevice, 0)
	w.inFar(t, func() { w.settle(t, farDevice, 1) })
	return w
}

// settle gives a side its addresses.
func (w *town) settle(t *testing.T, device string, side int) {
	t.Helper()
	dev := linkByName(t, device)
	for i, bits := range []int{24, 64} {
		ip := net.ParseIP(townAddrs[i][side])
		a := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, []int{32, 128}[i])}}
		if i == 1 {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(dev, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		t.Fatal(err)
	}
}

// inFar calls fn in the other namespace.
func (w *town) inFar(t *testing.T, fn func()) {
	t.Helper()
	if err := netns.Set(w.far); err != nil {
		t.Fatal(err)
	}
	fn()
	if err := netns.Set(w.near); err != nil {
		t.Fatal(err)
	}
}

// at calls fn in the namespace of a side: 0 is near.
func (w *town) at(t *testing.T, side int, fn func()) {
	t.Helper()
	if side == 0 {
		fn()
		return
	}
	w.inFar(t, fn)
}
