package bpfmap

import (
	"fmt"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
)

// instance is one of the flows that have a key one after the other.
type instance struct {
	key   bpfobj.PlexusCtKey
	birth uint16
}

// pending returns what CPUs have counted of open flows since they last added it
// to the flow itself (bpf/lib/cache.h): what has passed in the last seconds.
func (f *Flows) pending() (map[instance]datapath.Flow, error) {
	out := make(map[instance]datapath.Flow)
	var index uint32
	var perCPU []bpfobj.PlexusCacheEntry
	it := f.cache.Iterate()
	for it.Next(&index, &perCPU) {
		for _, e := range perCPU {
			if e.RxPackets|e.TxPackets != 0 {
				flow := instance{e.Key, e.Birth}
				out[flow] = add(out[flow], datapath.Flow{
					RxPackets: uint64(e.RxPackets), RxBytes: e.RxBytes,
					TxPackets: uint64(e.TxPackets), TxBytes: e.TxBytes,
				})
			}
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read counters of open flows: %w", err)
	}
	return out, nil
}

// add adds the packets and bytes of more to f.
func add(f, more datapath.Flow) datapath.Flow {
	f.RxPackets += more.RxPackets
	f.RxBytes += more.RxBytes
	f.TxPackets += more.TxPackets
	f.TxBytes += more.TxBytes
	return f
}
