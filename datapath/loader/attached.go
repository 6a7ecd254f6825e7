package loader

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// readBy reports whether any of programs uses a map.
func readBy(programs []ebpf.ProgramID, m *ebpf.Map) (bool, error) {
	info, err := m.Info()
	if err != nil {
		return false, fmt.Errorf("look at map %s: %w", m, err)
	}
	id, _ := info.ID() // always there since 4.13
	for _, p := range programs {
		if used, err := reads(p, id); used || err != nil {
			return used, err
		}
	}
	return false, nil
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
