package bpfmap

import "github.com/plexusmesh/plexus/datapath/bpfobj"

// Early returns how many packets the early stage has dropped (bpf/lib/xdp.h), and
// how many of them an event told of. List counts them under their reason too.
func (c *Counters) Early() (dropped, reported uint64, err error) {
	sum, err := c.sum(uint32(bpfobj.EarlyEarlyCounterCOUNTER_EARLY_DROPPED))
	if err != nil {
		return 0, 0, err
	}
	told, err := c.sum(uint32(bpfobj.EarlyEarlyCounterCOUNTER_EARLY_REPORTED))
	return sum.Packets, told.Packets, err
}
