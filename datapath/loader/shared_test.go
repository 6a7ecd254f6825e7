package loader

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// shelf holds maps, and programs that the kernel has verified on them, for every
// test: old kernels take long for that, the emulated ones of make test-vm minutes.
// A test gets the maps empty and pinned where it looks for them, and opens them as
// ever. What is about the making of maps calls Open.
type shelf struct {
	maps        map[string]*ebpf.Map
	generations []map[variant]*bpfobj.PlexusPrograms
	opened      int
}

// shared lasts as long as the process, since no test can say that it is the last.
var shared shelf

// generationsKept sets of programs take turns, so that what a test opens next
// takes the place of what it opened before, as after a restart.
const generationsKept = 2

// open opens the datapath with maps and programs of the shelf. Where another
// version's maps are pinned, both are new.
func (s *shelf) open(t testing.TB, opts Options) *Datapath {
	t.Helper()
	if err := s.lend(opts.Root); err != nil {
		t.Fatal(err)
	}
	opts.programs = s.source
	d, err := Open(opts)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	s.opened++
	t.Cleanup(func() { _ = d.Close() })
	unplugLater(t)
	return d
}

// lend pins the maps that are not pinned yet, as if they had just been made.
func (s *shelf) lend(root string) error {
	if err := makeRoot(root); err != nil {
		return err
	}
	for name, m := range s.maps {
		pin := filepath.Join(mapDir(root), name)
		if _, err := os.Stat(pin); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := wipe(m); err != nil {
			return fmt.Errorf("wipe %s: %w", m, err)
		}
		clone, err := m.Clone() // as a map can have one pin
		if err != nil {
			return err
		}
		if err := errors.Join(clone.Pin(pin), clone.Close()); err != nil {
			return err
		}
	}
	return nil
}

// source returns programs that were verified before on the same maps. The first
// maps are kept.
func (s *shelf) source(d *Datapath, spec *ebpf.CollectionSpec, v variant) (*bpfobj.PlexusPrograms, error) {
	if s.maps == nil {
		kept, err := clones(d.byName())
		if err != nil {
			return nil, err
		}
		s.maps = kept
	}
	if same, err := s.lent(d); err != nil || !same {
		return nil, errors.Join(err, errors.New("open maps that are not the shelf's: call Open instead"))
	}
	turn := s.opened % generationsKept
	for len(s.generations) <= turn {
		s.generations = append(s.generations, map[variant]*bpfobj.PlexusPrograms{})
	}
	if s.generations[turn][v] == nil {
		d.opts.log = ebpf.LogLevelStats
		programs, err := verify(d, spec, v)
		if err != nil {
			return nil, err
		}
		s.generations[turn][v] = programs
	}
	return clonesOf(s.generations[turn][v])
}

// lent reports whether all maps of d are the shelf's.
func (s *shelf) lent(d *Datapath) (bool, error) {
	for name, m := range d.byName() {
		theirs, err := m.Info()
		if err != nil {
			return false, err
		}
		ours, err := s.maps[name].Info()
		if err != nil {
			return false, err
		}
		a, _ := theirs.ID()
		if b, _ := ours.ID(); a != b {
			return false, nil
		}
	}
	return true, nil
}

func clones(maps map[string]*ebpf.Map) (map[string]*ebpf.Map, error) {
	out := map[string]*ebpf.Map{}
	for name, m := range maps {
		clone, err := m.Clone()
		if err != nil {
			return nil, err
		}
		out[name] = clone
	}
	return out, nil
}

func clonesOf(programs *bpfobj.PlexusPrograms) (*bpfobj.PlexusPrograms, error) {
	out := &bpfobj.PlexusPrograms{}
	fields := reflect.ValueOf(out).Elem()
	for i, p := range programsOf(programs) {
		clone, err := p.Clone()
		if err != nil {
			return nil, err
		}
		for f := range fields.NumField() {
			if fields.Type().Field(f).Tag.Get("ebpf") == i {
				fields.Field(f).Set(reflect.ValueOf(clone))
			}
		}
	}
	return out, nil
}

// programsOf returns every program by the name that it has in the kernel.
func programsOf(programs *bpfobj.PlexusPrograms) map[string]*ebpf.Program {
	out := map[string]*ebpf.Program{}
	fields := reflect.ValueOf(programs).Elem()
	for f := range fields.NumField() {
		out[fields.Type().Field(f).Tag.Get("ebpf")] = fields.Field(f).Interface().(*ebpf.Program)
	}
	return out
}

// wipe makes a map as it was when it was made.
func wipe(m *ebpf.Map) error {
	switch m.Type() {
	case ebpf.RingBuf:
		return drained(m)
	case ebpf.ArrayOfMaps:
		return vacate(m)
	case ebpf.Array:
		return zero(m, make([]byte, m.ValueSize()))
	case ebpf.PerCPUArray:
		values := make([][]byte, ebpf.MustPossibleCPU())
		for i := range values {
			values[i] = make([]byte, m.ValueSize())
		}
		return zero(m, values)
	}
	key := make([]byte, m.KeySize())
	for {
		if err := m.NextKey(nil, &key); errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if err := m.Delete(key); err != nil {
			return err
		}
	}
}

// vacate takes the maps out of a map of maps.
func vacate(m *ebpf.Map) error {
	for i := range m.MaxEntries() {
		if err := m.Delete(i); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

func zero(m *ebpf.Map, value any) error {
	for i := range m.MaxEntries() {
		if err := m.Put(i, value); err != nil {
			return err
		}
	}
	return nil
}

func drained(m *ebpf.Map) error {
	r, err := ringbuf.NewReader(m)
	if err != nil {
		return err
	}
	defer r.Close()
	r.SetDeadline(time.Unix(1, 0))
	for err == nil {
		_, err = r.Read()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// unplugLater removes the devices of the calling thread's namespace at the end of
// the test. Until the kernel gets to do so by itself, the programs there would
// go on to write into maps that the next test has.
func unplugLater(t testing.TB) {
	t.Helper()
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	there, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer ns.Close()
		defer there.Close()
		devices, err := there.LinkList()
		if err != nil {
			t.Error(err)
		}
		for _, dev := range devices {
			if dev.Attrs().Flags&net.FlagLoopback == 0 {
				_ = there.LinkDel(dev) // or its other end has taken it along
			}
		}
	})
}
