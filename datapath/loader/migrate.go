package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// migration says what becomes of a map that an older version pinned, under a name
// that today's programs do not know. Programs of that version that are still
// attached use it until others take their place.
type migration struct {
	name string // of the map and of its pin
	// carry writes what the older map holds into the maps of today. Of what both
	// know, the newer stands.
	carry func(*Datapath, *ebpf.Map) error
	// written is whether programs write the map. Then it is carried over once more
	// right before others take their place, and again after.
	written bool
	// leave makes the map as a daemon of that version expects to find it, should
	// one come next; nil for a map that such a daemon fills by itself.
	leave func(*Datapath) error
}

// migrations are those of every layout that ever was.
var migrations = []migration{
	{name: pinholesV1, carry: carryPinholes},
	{name: flowsV1, carry: carryFlows, written: true, leave: leaveFlows},
}

// carryOver writes what maps of older versions hold into those of today, so that
// a program that takes the place of an older one never knows less. It does so for
// as long as an older map is pinned: also where an earlier run died half-way, and
// where an older version ran again meanwhile. Entries that nobody wants go like
// any other orphan.
func (d *Datapath) carryOver() error {
	programs, err := d.attached()
	if err != nil {
		return err
	}
	return d.eachOlder(func(m migration, older *ebpf.Map) (err error) {
		if d.written[m.name], err = readBy(programs, older); err != nil {
			return err
		}
		d.written[m.name] = d.written[m.name] && m.written
		return d.carry(m, older)
	})
}

// carryWritten does so with what older programs have written since. What no
// program has written has not changed: what went meanwhile must not come back.
func (d *Datapath) carryWritten() error {
	return d.eachOlder(func(m migration, older *ebpf.Map) error {
		if !d.written[m.name] {
			return nil
		}
		return d.carry(m, older)
	})
}

func (d *Datapath) carry(m migration, older *ebpf.Map) error {
	if err := m.carry(d, older); err != nil {
		return fmt.Errorf("carry over map %s: %w", d.mapPin(m.name), err)
	}
	return nil
}

// retire removes the pins of older maps that no attached program uses any more,
// once all that such a program has written is carried over.
func (d *Datapath) retire() error {
	var programs []ebpf.ProgramID
	return d.eachOlder(func(m migration, older *ebpf.Map) (err error) {
		if programs == nil {
			if programs, err = d.attached(); err != nil {
				return err
			}
		}
		if d.written[m.name] {
			if err := d.carry(m, older); err != nil {
				return err
			}
		}
		if used, err := readBy(programs, older); used || err != nil {
			return err
		}
		if err := older.Unpin(); err != nil {
			return fmt.Errorf("remove map %s: %w", d.mapPin(m.name), err)
		}
		return nil
	})
}

// LeaveForOlder pins what a daemon of an older version would miss, should one
// come next: the flows that are known now, in the tables that it looks for. The
// next Open of this version takes them back, and EnsureLinks removes them. Flows
// that begin later are not in there.
func (d *Datapath) LeaveForOlder() error {
	errs := []error{d.carryWritten()}
	for _, m := range migrations {
		if m.leave == nil {
			continue
		}
		if err := m.leave(d); err != nil {
			errs = append(errs, fmt.Errorf("leave map %s for an older version: %w", d.mapPin(m.name), err))
		}
	}
	return errors.Join(errs...)
}

func (d *Datapath) mapPin(name string) string { return filepath.Join(mapDir(d.opts.Root), name) }

// eachOlder calls fn with every map of an older version that is pinned.
func (d *Datapath) eachOlder(fn func(migration, *ebpf.Map) error) error {
	var errs []error
	for _, m := range migrations {
		older, err := ebpf.LoadPinnedMap(d.mapPin(m.name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, explain(fmt.Sprintf("open map %s", d.mapPin(m.name)), err))
			continue
		}
		errs = append(errs, fn(m, older), older.Close())
	}
	return errors.Join(errs...)
}
