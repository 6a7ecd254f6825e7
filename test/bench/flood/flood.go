package flood

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/loader"
	"github.com/plexusmesh/plexus/internal/lab"
	"github.com/plexusmesh/plexus/policy"
)

const (
	rounds      = 51
	burst       = 1 << 15 // packets of one measurement: short, so that those that are compared lie close together
	prefixes    = 1000    // denied, of each family
	dropDevice  = "drop0"
	floodDevice = "flood0"
)

// flooded is a host that drops what arrives at one end of a veth pair.
type flooded struct {
	programs *loader.Datapath
	early    *loader.Early
	flood    *ebpf.Program // sends what it is given out of the other end
	links    []datapath.Link
}

// Comparison is what one family came to, round for round, in packets a second.
type Comparison struct {
	Family string
	Late   []float64 // by the programs for traffic control
	Early  []float64 // by XDP before them
}

// Run measures. It needs root.
func Run(ctx context.Context) (out []Comparison, err error) {
	l, err := lab.New(lab.Options{Prefix: "bench-flood", Hosts: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	host := l.Hosts[0]
	err = host.Enter(func() error {
		f, err := newFlooded(host.Path("/sys/fs/bpf/plexus"))
		if err != nil {
			return err
		}
		out, err = f.measure(ctx)
		return errors.Join(err, f.early.Close(), f.programs.Close())
	})
	return out, err
}

func newFlooded(root string) (*flooded, error) {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: dropDevice}, PeerName: floodDevice}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("add %s: %w", dropDevice, err)
	}
	far, err := netlink.LinkByName(floodDevice)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", floodDevice, err)
	}
	if err := errors.Join(netlink.LinkSetUp(veth), netlink.LinkSetUp(far), receiveFrames(dropDevice)); err != nil {
		return nil, fmt.Errorf("set up %s: %w", dropDevice, err)
	}
	f := &flooded{links: []datapath.Link{{Name: dropDevice}}}
	if f.flood, err = redirect(far.Attrs().Index); err != nil {
		return nil, fmt.Errorf("load the program that floods: %w", err)
	}
	if f.programs, err = loader.Open(loader.Options{Root: root, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		return nil, err
	}
	if f.early, err = f.programs.OpenEarly(); err != nil {
		return nil, err
	}
	if _, err := f.programs.Maps().Policy.Load(blocklist()); err != nil {
		return nil, err
	}
	return f, f.programs.EnsureLinks(f.links)
}

// redirect returns a program that sends every packet out of a device.
func redirect(index int) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
	}})
}

// receiveFrames has a veth device take XDP frames although it runs no XDP program:
// it does while generic receive offload is on (ethtool -K DEVICE gro on).
func receiveFrames(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, on uint32 }{unix.ETHTOOL_SGRO, 1}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// measure lets both ways run in turn.
func (f *flooded) measure(ctx context.Context) ([]Comparison, error) {
	var out []Comparison
	for family, name := range []string{"IPv4", "IPv6"} {
		c := Comparison{Family: name}
		for round := range rounds {
			frame := datagram(blocked(round * 7)[family])
			late, err := f.rate(frame, nil)
			if err != nil {
				return nil, err
			}
			early, err := f.rate(frame, f.links)
			if err = errors.Join(err, context.Cause(ctx)); err != nil {
				return nil, err
			}
			c.Late, c.Early = append(c.Late, late), append(c.Early, early)
		}
		out = append(out, c)
	}
	return out, nil
}

// attempts are made at each measurement: one in which the kernel has left the
// packets to a thread that did not get to run is none.
const attempts = 100

// rate returns how many packets a second are dropped with the early stage on links.
func (f *flooded) rate(frame []byte, links []datapath.Link) (float64, error) {
	if err := f.programs.PruneEarly(links); err != nil {
		return 0, err
	}
	for name, err := range f.early.Ensure(links) {
		return 0, fmt.Errorf("attach XDP to %s: %w", name, err)
	}
	var all, early uint64
	for range attempts {
		took, err := f.flow(frame, &all, &early)
		if err != nil {
			return 0, err
		}
		if all >= burst*99/100 {
			if (early >= burst*99/100) != (len(links) > 0) {
				return 0, fmt.Errorf("of %d packets %d were dropped, %d of them early", burst, all, early)
			}
			return float64(all) / took.Seconds(), nil
		}
	}
	return 0, fmt.Errorf("of %d packets %d were dropped, %d of them early, at the last of %d attempts", burst, all, early, attempts)
}

// flow sends a burst and tells how long that took, how many packets were dropped,
// and how many of them early.
func (f *flooded) flow(frame []byte, all, early *uint64) (time.Duration, error) {
	before, beforeEarly, err := f.dropped()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if _, err := f.flood.Run(&ebpf.RunOptions{Data: frame, Repeat: burst, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES}); err != nil {
		return 0, fmt.Errorf("flood: %w", err)
	}
	took := time.Since(begin)
	after, afterEarly, err := f.dropped()
	*all, *early = after-before, afterEarly-beforeEarly
	return took, err
}

// dropped returns how many packets were dropped, and how many of them early.
func (f *flooded) dropped() (all, early uint64, err error) {
	counters, err := f.programs.Maps().Counters.List()
	if err != nil {
		return 0, 0, err
	}
	for _, c := range counters {
		if c.Direction == policy.Ingress && c.Reason == "denied by rule" {
			all += c.Packets
		}
	}
	early, _, err = f.programs.Maps().Counters.Early()
	return all, early, err
}
