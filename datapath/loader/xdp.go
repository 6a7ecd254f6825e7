package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// Early is the optional stage that drops new flows of denied CIDR peers, and of
// strangers beyond their limit, before the kernel has made anything of the packet
// (bpf/lib/xdp.h). It works for as long as
// its process has it open: then the kernel itself ends it, and the programs for
// traffic control, which judge the same, are alone again. An Early may not be used
// by several goroutines at once.
type Early struct {
	root string
	objs earlyObjects
}

type earlyObjects struct {
	Entry *ebpf.Program `ebpf:"xdp_entry"`
	Early *ebpf.Program `ebpf:"xdp_early"`
	Stage *ebpf.Map     `ebpf:"plexus_stage"`
}

// OpenEarly loads the early stage on the maps of d. It attaches nothing. The
// programs of d must be attached to every link already: what they note of flows that
// this host opens, the stage relies on.
func (d *Datapath) OpenEarly() (*Early, error) {
	e := &Early{root: d.opts.Root}
	err := d.loadEarly(&e.objs, unix.BPF_F_XDP_HAS_FRAGS)
	if err != nil { // before 5.18
		err = d.loadEarly(&e.objs, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := d.maps.Flows.Recall(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if err := e.objs.Stage.Put(uint32(0), e.objs.Early); err != nil {
		return nil, errors.Join(fmt.Errorf("open the early stage: %w", err), e.Close())
	}
	return e, nil
}

// loadEarly loads with flags for the kernel: with frags, packets that lie in
// several pieces, as jumbo frames do, go on as ever.
func (d *Datapath) loadEarly(into *earlyObjects, flags uint32) error {
	spec, err := bpfobj.LoadEarly()
	if err != nil {
		return fmt.Errorf("decode programs of the early stage: %w", err)
	}
	maps := d.byName()
	for name, m := range maps {
		if s := spec.Maps[name]; s != nil {
			s.MaxEntries = m.MaxEntries() // as it was set when the map was made
		} else {
			delete(maps, name)
		}
	}
	for _, p := range spec.Programs {
		p.Flags |= flags
	}
	if err := spec.Variables[bpfobj.EarlyVarCfgLimitGap].Set(d.opts.limitGap()); err != nil {
		return fmt.Errorf("set the limit of the early stage: %w", err)
	}
	opts := &ebpf.CollectionOptions{MapReplacements: maps, Programs: ebpf.ProgramOptions{LogLevel: d.opts.log}}
	if err := spec.LoadAndAssign(into, opts); err != nil {
		return explain("load the early stage", err)
	}
	return nil
}

// Close ends the early stage on every link, and leaves it attached there: most
// drivers lose packets when that changes.
func (e *Early) Close() error {
	return errors.Join(e.objs.Stage.Close(), e.objs.Entry.Close(), e.objs.Early.Close())
}

// Ensure attaches the stage to every managed interface whose driver runs XDP
// itself, or takes over from an earlier run there. It returns why the others do
// without, by name: nothing is lost there but speed. The programs for traffic
// control must be attached to all of links.
func (e *Early) Ensure(links []datapath.Link) map[string]error {
	without := make(map[string]error)
	for _, l := range links {
		if l.Tunnel {
			continue // WireGuard has no frames of its own
		}
		if err := e.ensure(l.Name); err != nil {
			without[l.Name] = err
		}
	}
	return without
}

func (e *Early) ensure(device string) error {
	dev, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find link %s: %w", device, err)
	}
	pin, index := earlyPin(e.root, device), dev.Attrs().Index
	adopted, err := adoptEarly(pin, index, e.objs.Entry)
	if adopted || err != nil {
		return err
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: e.objs.Entry, Interface: index, Flags: link.XDPDriverMode})
	if err != nil {
		return obstacle(err)
	}
	defer l.Close() // the pin keeps it
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale pin %s: %w", pin, err)
	}
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin the early stage of %s: %w", device, err)
	}
	return nil
}

// obstacle words the kernel's refusal to attach.
func obstacle(err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("its driver does not run XDP: %w", err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("another XDP program is attached: %w", err)
	case errors.Is(err, unix.ERANGE):
		return fmt.Errorf("its packets are too large for XDP in this kernel: %w", err)
	}
	return fmt.Errorf("the kernel refuses XDP there: %w", err)
}

// adoptEarly puts prog into the pinned link, if that is still on the interface.
func adoptEarly(pin string, index int, prog *ebpf.Program) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("look at pinned link %s: %w", pin, err)
	}
	if x := info.XDP(); x == nil || int(x.Ifindex) != index { // 0 once the interface is gone
		return false, nil
	}
	if is, err := sameProgram(info.Program, prog); is || err != nil {
		return is, err
	}
	if err := l.Update(prog); err != nil {
		return false, fmt.Errorf("replace program of pinned link %s: %w", pin, err)
	}
	return true, nil
}

// earlyPrefix begins the names of the early stage's pins. They lie among the maps:
// there every version's cleanup removes what is called plexus_, also one that
// knows of no early stage.
const earlyPrefix = "plexus_xdp_"

func earlyPin(root, device string) string {
	return filepath.Join(mapDir(root), earlyPrefix+escape.Replace(device))
}

// ListEarly returns the links that the early stage is attached to, sorted. One
// whose interface is gone is listed until it is pruned.
func (d *Datapath) ListEarly() ([]string, error) { return listEarly(d.opts.Root) }

func listEarly(root string) ([]string, error) {
	entries, err := os.ReadDir(mapDir(root))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list pins of the early stage: %w", err)
	}
	var out []string
	for _, e := range entries {
		if name, is := strings.CutPrefix(e.Name(), earlyPrefix); is {
			out = append(out, unescape.Replace(name))
		}
	}
	slices.Sort(out)
	return out, nil
}

// PruneEarly detaches the early stage from every link that is not in keep. It must
// come before programs for traffic control are detached: what those have not seen
// of a flow, the stage does not know either.
func (d *Datapath) PruneEarly(keep []datapath.Link) error {
	have, err := d.ListEarly()
	errs := []error{err}
	for _, name := range have {
		if !slices.Contains(keep, datapath.Link{Name: name}) {
			errs = append(errs, removeEarly(d.opts.Root, name))
		}
	}
	return errors.Join(errs...)
}

func removeEarly(root, device string) error {
	pin := earlyPin(root, device)
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	if err := l.Unpin(); err != nil {
		return fmt.Errorf("unpin the early stage of %s: %w", device, err)
	}
	if err := l.Detach(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errLinkGone) {
		return fmt.Errorf("detach the early stage from %s: %w", device, err)
	}
	return nil
}
