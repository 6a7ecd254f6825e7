package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// openMaps opens every pinned map, creating those that are missing.
func (d *Datapath) openMaps(spec *ebpf.CollectionSpec) error {
	for name, into := range d.fields() {
		m, err := d.openMap(spec.Maps[name])
		if err != nil {
			return err
		}
		*into = m
	}
	return nil
}

// fields returns where each map goes.
func (d *Datapath) fields() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		bpfobj.PlexusMapPlexusCidrV1:     &d.objs.PlexusCidrV1,
		bpfobj.PlexusMapPlexusCountersV1: &d.objs.PlexusCountersV1,
		bpfobj.PlexusMapPlexusCacheV1:    &d.objs.PlexusCacheV1,
		bpfobj.PlexusMapPlexusCalledV1:   &d.objs.PlexusCalledV1,
		bpfobj.PlexusMapPlexusCtV2:       &d.objs.PlexusCtV2,
		bpfobj.PlexusMapPlexusEventsV1:   &d.objs.PlexusEventsV1,
		bpfobj.PlexusMapPlexusExemptV1:   &d.objs.PlexusExemptV1,
		bpfobj.PlexusMapPlexusFragV1:     &d.objs.PlexusFragV1,
		bpfobj.PlexusMapPlexusIpcacheV1:  &d.objs.PlexusIpcacheV1,
		bpfobj.PlexusMapPlexusJudgedV1:   &d.objs.PlexusJudgedV1,
		bpfobj.PlexusMapPlexusLimitV1:    &d.objs.PlexusLimitV1,
		bpfobj.PlexusMapPlexusOpeningV1:  &d.objs.PlexusOpeningV1,
		bpfobj.PlexusMapPlexusPinholeV2:  &d.objs.PlexusPinholeV2,
		bpfobj.PlexusMapPlexusPolicyV1:   &d.objs.PlexusPolicyV1,
		bpfobj.PlexusMapPlexusScratchV1:  &d.objs.PlexusScratchV1,
		bpfobj.PlexusMapPlexusStateV1:    &d.objs.PlexusStateV1,
	}
}

func (d *Datapath) byName() map[string]*ebpf.Map {
	out := make(map[string]*ebpf.Map)
	for name, m := range d.fields() {
		out[name] = *m
	}
	return out
}

// openMap opens one pinned map. It corrects spec where the map keeps its own size.
func (d *Datapath) openMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	path := filepath.Join(mapDir(d.opts.Root), spec.Name)
	if spec.Name == bpfobj.PlexusMapPlexusCtV2 {
		size, err := d.flowTableSize(path, spec.MaxEntries)
		if err != nil {
			return nil, err
		}
		spec.MaxEntries = size
	}
	m, err := ebpf.NewMapWithOptions(spec, ebpf.MapOptions{PinPath: mapDir(d.opts.Root)})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return nil, fmt.Errorf("adopt pinned map %s: another version of Plexus made it with another layout: "+
			"run `plexusd cleanup`, which forgets known flows, and start again: %w", path, err)
	}
	if err != nil {
		return nil, explain(fmt.Sprintf("open map %s", path), err)
	}
	return m, nil
}

// flowTableSize returns the size that the flow table should have: the configured
// one, except where a table of another size is pinned. A new size is not worth
// the flows in it.
func (d *Datapath) flowTableSize(path string, preset uint32) (uint32, error) {
	want := d.opts.CTSize
	if want == 0 {
		want = preset
	}
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return want, nil
	}
	if err != nil {
		return 0, explain(fmt.Sprintf("open map %s", path), err)
	}
	defer m.Close()
	if have := m.MaxEntries(); have != want {
		d.opts.Logger.Warn("flow table keeps its size until plexusd cleanup or a reboot", "resource", path, "have", have, "want", want)
		return have, nil
	}
	return want, nil
}
