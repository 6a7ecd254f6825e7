package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// pinholesV1 is the map of pinholes before they could name a remote address: a
// hash of direction, protocol and port. Programs of that time that are still
// attached read it until others take their place.
const pinholesV1 = "plexus_pinhole_v1"

// pinholeKeyV1 is its key, in memory as in the programs.
type pinholeKeyV1 struct {
	Direction uint8
	Protocol  uint8
	Port      uint16
}

// carryOver opens in the map of today every pinhole of the map before, so that a
// program that takes the place of an older one never knows fewer. It does so for
// as long as the older map is pinned: also where an earlier run died half-way,
// and where an older version ran again meanwhile. What it opens and nobody wants
// is closed like any other orphan.
func (d *Datapath) carryOver() error {
	old, err := d.openV1()
	if old == nil || err != nil {
		return err
	}
	defer old.Close()
	var k pinholeKeyV1
	var flags uint32
	it := old.Iterate()
	for it.Next(&k, &flags) {
		key := bpfobj.PlexusPinholeKey{Prefixlen: 32, Direction: k.Direction, Protocol: k.Protocol, Port: k.Port}
		if err := d.objs.PlexusPinholeV2.Update(&key, flags, ebpf.UpdateAny); err != nil {
			return fmt.Errorf("carry over pinholes of %s: %w", d.pinV1(), err)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("carry over pinholes of %s: %w", d.pinV1(), err)
	}
	return nil
}

func (d *Datapath) pinV1() string { return filepath.Join(mapDir(d.opts.Root), pinholesV1) }

// openV1 opens the older map, and returns nil where there is none.
func (d *Datapath) openV1() (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(d.pinV1(), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, explain(fmt.Sprintf("open map %s", d.pinV1()), err)
	}
	return m, nil
}

// retire removes the pin of the older map once no attached program reads it.
func (d *Datapath) retire() error {
	old, err := d.openV1()
	if old == nil || err != nil {
		return err
	}
	defer old.Close()
	info, err := old.Info()
	if err != nil {
		return fmt.Errorf("look at map %s: %w", d.pinV1(), err)
	}
	id, _ := info.ID() // always there since 4.13
	programs, err := d.attached()
	if err != nil {
		return err
	}
	for _, p := range programs {
		if used, err := reads(p, id); used || err != nil {
			return err
		}
	}
	if err := old.Unpin(); err != nil {
		return fmt.Errorf("remove map %s: %w", d.pinV1(), err)
	}
	return nil
}

func reads(program ebpf.ProgramID, m ebpf.MapID) (bool, error) {
	p, err := ebpf.NewProgramFromID(program)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // detached meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("open attached program: %w", err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return false, fmt.Errorf("look at attached program: %w", err)
	}
	ids, _ := info.MapIDs() // always there since 4.15
	return slices.Contains(ids, m), nil
}

// attached returns the programs that run on any link by an attachment of ours.
func (d *Datapath) attached() ([]ebpf.ProgramID, error) {
	links, err := d.ListLinks()
	if err != nil {
		return nil, err
	}
	var out []ebpf.ProgramID
	for _, l := range links {
		index := 0
		if dev, err := netlink.LinkByName(l.Name); err == nil {
			index = dev.Attrs().Index
		}
		for _, h := range hooks(l.Name, index) {
			ids, err := attachedAt(d.opts.Root, h)
			if err != nil {
				return nil, err
			}
			out = append(out, ids...)
		}
	}
	return out, nil
}

// attachedAt returns the programs at h, by either way of attaching.
func attachedAt(root string, h hook) ([]ebpf.ProgramID, error) {
	var out []ebpf.ProgramID
	if h.index != 0 {
		f, err := findFilter(h)
		if err != nil {
			return nil, err
		}
		if f != nil {
			out = append(out, ebpf.ProgramID(f.Id))
		}
	}
	l, err := link.LoadPinnedLink(tcxPin(root, h), nil)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned link of %s: %w", h, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return nil, fmt.Errorf("look at pinned link of %s: %w", h, err)
	}
	return append(out, info.Program), nil
}
