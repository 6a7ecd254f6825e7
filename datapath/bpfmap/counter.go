package bpfmap

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

// Counters is the array of packet counters.
type Counters struct {
	array *ebpf.Map
}

// List returns every counter that is not zero, summed over CPUs, by reason,
// direction of the packet and device class.
func (c *Counters) List() ([]datapath.Counter, error) {
	var out []datapath.Counter
	for index := range uint32(bpfobj.PlexusDropReasonDROP_REASONS) * 4 {
		sum, err := c.sum(index)
		if err != nil {
			return nil, err
		}
		if sum.Packets == 0 {
			continue
		}
		out = append(out, datapath.Counter{
			Reason:    bpfobj.PlexusDropReason(index / 4).String(),
			Direction: policy.Direction(index / 2 % 2),
			Tunnel:    index%2 == 1,
			Packets:   sum.Packets,
			Bytes:     sum.Bytes,
		})
	}
	return out, nil
}

// EventsLost returns how many events found the ring full, because nobody read it
// or not fast enough.
func (c *Counters) EventsLost() (uint64, error) {
	sum, err := c.sum(uint32(bpfobj.PlexusCounterLayoutCOUNTER_EVENTS_LOST))
	return sum.Packets, err
}

// TurnedAway returns how many packets of flows found no room among the open ones.
// Each such flow tries again with its next packet.
func (c *Counters) TurnedAway() (uint64, error) {
	sum, err := c.sum(uint32(bpfobj.PlexusCounterLayoutCOUNTER_TABLE_FULL))
	return sum.Packets, err
}

func (c *Counters) sum(index uint32) (sum bpfobj.PlexusCounter, err error) {
	var perCPU []bpfobj.PlexusCounter
	if err := c.array.Lookup(index, &perCPU); err != nil {
		return sum, fmt.Errorf("read packet counter %d: %w", index, err)
	}
	for _, v := range perCPU {
		sum.Packets += v.Packets
		sum.Bytes += v.Bytes
	}
	return sum, nil
}
