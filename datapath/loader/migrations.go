package loader

import (
	"errors"
	"os"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// pinholesV1 is the map of pinholes before they could name a remote address: a
// hash of direction, protocol and port.
const pinholesV1 = "plexus_pinhole_v1"

// pinholeKeyV1 is its key, in memory as in the programs.
type pinholeKeyV1 struct {
	Direction uint8
	Protocol  uint8
	Port      uint16
}

func carryPinholes(d *Datapath, older *ebpf.Map) error {
	var k pinholeKeyV1
	var flags uint32
	it := older.Iterate()
	for it.Next(&k, &flags) {
		key := bpfobj.PlexusPinholeKey{Prefixlen: 32, Direction: k.Direction, Protocol: k.Protocol, Port: k.Port}
		if err := d.objs.PlexusPinholeV2.Update(&key, flags, ebpf.UpdateAny); err != nil {
			return err
		}
	}
	return it.Err()
}

// flowsV1 is the table of flows before those that are opening had their own: an
// LRU hash of the same keys and values as its two successors.
const flowsV1 = "plexus_ct_v1"

func carryFlows(d *Datapath, older *ebpf.Map) error { return d.maps.Flows.Carry(older) }

// leaveFlows lets an older version know flows by the direction that they were
// opened in. Not knowing them, it would judge each by whichever side speaks next,
// and cut those that policy lets only the other side open.
func leaveFlows(d *Datapath) error {
	older, err := ebpf.LoadPinnedMap(d.mapPin(flowsV1), nil)
	if errors.Is(err, os.ErrNotExist) {
		older, err = makeFlowsV1(d)
	}
	if err != nil {
		return explain("open it", err)
	}
	defer older.Close()
	return d.maps.Flows.CopyTo(older)
}

// makeFlowsV1 makes a table of the size that the older version would give it, as
// that version keeps what it finds.
func makeFlowsV1(d *Datapath) (*ebpf.Map, error) {
	open := d.objs.PlexusCtV2
	return ebpf.NewMapWithOptions(&ebpf.MapSpec{
		Name: flowsV1, Type: ebpf.LRUHash, MaxEntries: open.MaxEntries(), Pinning: ebpf.PinByName,
		KeySize: open.KeySize(), ValueSize: open.ValueSize(),
	}, ebpf.MapOptions{PinPath: mapDir(d.opts.Root)})
}
