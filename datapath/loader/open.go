package loader

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath/bpfmap"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// Options say where the datapath lives and how large it is.
type Options struct {
	Root      string       // directory of ours on a BPF file system; required, made if missing
	CTSize    uint32       // most flows known at once; 0 for the default of 262144
	Logger    *slog.Logger // required
	ForbidTCX bool         // attach with clsact filters even where the kernel has tcx

	// SourceLimit is how many flows that policy allows one stranger may open in a second
	// (bpf/lib/limit.h); 0 for no limit.
	SourceLimit uint32

	log      ebpf.LogLevel // of the verifier
	programs programSource // nil but in tests, which need not have all verified each time
}

// programSource brings the programs of one variant into the kernel, on the open maps.
type programSource func(*Datapath, *ebpf.CollectionSpec, variant) (*bpfobj.PlexusPrograms, error)

// Datapath is the loaded programs with their maps.
type Datapath struct {
	opts     Options
	objs     bpfobj.PlexusMaps
	maps     *bpfmap.Maps
	programs map[variant]*bpfobj.PlexusPrograms
	written  map[string]bool // maps of older versions that programs were writing when this was opened
}

// variant is a setting of bpf/lib/config.h that a program is loaded with.
type variant struct {
	l2Len uint32
}

// The variants: links with an Ethernet header, and links with none.
var variants = []variant{{l2Len: 14}, {l2Len: 0}}

// Open loads the programs and opens the pinned maps, creating what is missing.
// It attaches nothing. The caller closes the Datapath.
func Open(opts Options) (*Datapath, error) {
	if opts.Root == "" || opts.Logger == nil {
		return nil, errors.New("open datapath: Root and Logger are required")
	}
	if err := makeRoot(opts.Root); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11, maps count against it
		return nil, explain("raise the locked-memory limit", err)
	}
	spec, err := bpfobj.LoadPlexus()
	if err != nil {
		return nil, fmt.Errorf("decode programs: %w", err)
	}
	d := &Datapath{opts: opts, programs: make(map[variant]*bpfobj.PlexusPrograms), written: make(map[string]bool)}
	if err := d.load(spec); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (d *Datapath) load(spec *ebpf.CollectionSpec) error {
	if err := d.openMaps(spec); err != nil {
		return err
	}
	maps, err := bpfmap.New(&d.objs)
	if err != nil {
		return err
	}
	d.maps = maps
	if err := d.carryOver(); err != nil {
		return err
	}
	source := d.opts.programs
	if source == nil {
		source = verify
	}
	for _, v := range variants {
		programs, err := source(d, spec, v)
		if err != nil {
			return err
		}
		d.programs[v] = programs
	}
	return nil
}

// verify has the kernel look at programs.
func verify(d *Datapath, spec *ebpf.CollectionSpec, v variant) (*bpfobj.PlexusPrograms, error) {
	spec = spec.Copy()
	err := errors.Join(
		spec.Variables[bpfobj.PlexusVarCfgL2Len].Set(v.l2Len),
		spec.Variables[bpfobj.PlexusVarCfgLimitGap].Set(d.opts.limitGap()),
	)
	if err != nil {
		return nil, fmt.Errorf("set what programs are loaded with: %w", err)
	}
	programs := &bpfobj.PlexusPrograms{}
	err = spec.LoadAndAssign(programs, &ebpf.CollectionOptions{
		MapReplacements: d.byName(), Programs: ebpf.ProgramOptions{LogLevel: d.opts.log},
	})
	if err != nil {
		return nil, explain("load programs", err)
	}
	return programs, nil
}

// limitGap is the limit as programs take it: nanoseconds between two flows.
func (o Options) limitGap() uint64 {
	if o.SourceLimit == 0 {
		return 0
	}
	return uint64(time.Second) / uint64(o.SourceLimit)
}

// Maps returns the drivers of the maps. They are valid until Close.
func (d *Datapath) Maps() *bpfmap.Maps { return d.maps }

// Close releases what the process holds. Pinned maps and attached programs stay.
func (d *Datapath) Close() error {
	var errs []error
	for _, p := range d.programs {
		errs = append(errs, p.Close())
	}
	return errors.Join(append(errs, d.objs.Close())...)
}

// makeRoot makes the directories for pins, or nothing where they could hold none.
func makeRoot(root string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(existing(root), &fs); err != nil {
		return fmt.Errorf("look at %s: %w", root, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("pin to %s: not on a BPF file system: mount -t bpf bpf /sys/fs/bpf", root)
	}
	for _, dir := range []string{root, mapDir(root), linkDir(root)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return explain(fmt.Sprintf("make %s", dir), err)
		}
	}
	return nil
}

// existing returns path, or the nearest directory above it that exists.
func existing(path string) string {
	for path != filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil {
			break
		}
		path = filepath.Dir(path)
	}
	return path
}

func mapDir(root string) string  { return filepath.Join(root, "maps") }
func linkDir(root string) string { return filepath.Join(root, "links") }
