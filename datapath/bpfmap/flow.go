package bpfmap

import (
	"errors"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// batch is how many entries one system call reads.
const batch = 4096

// stateNames are those of datapath.Flow.State.
var stateNames = map[uint8]string{
	stateSyn:         "syn",
	stateEstablished: "established",
	stateClosing:     "closing",
}

// Flows are the tables of known flows.
type Flows struct {
	open      *ebpf.Map // both sides have shown that they are there
	opening   *ebpf.Map
	cache     *ebpf.Map // what each CPU has counted of open flows, and not yet added to them
	fragments *ebpf.Map // ports of packets that came in fragments
	called    *ebpf.Map // whom this host has opened flows to, by a hash
}

// List returns the flows that are allowed, also those whose time is over but
// whose place nobody has needed. Flows that come and go meanwhile may be missing.
func (f *Flows) List() ([]datapath.Flow, error) {
	pending, err := f.pending()
	if err != nil {
		return nil, err
	}
	now := sinceBoot()
	var out []datapath.Flow
	for _, table := range []*ebpf.Map{f.opening, f.open} {
		err := each(table, func(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) {
			if v.Reason == 0 {
				flow := add(flowOf(k, v, now), pending[instance{*k, v.Birth}])
				flow.Open = table == f.open
				out = append(out, flow)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Seed makes flows known that were open before the programs could see them, so
// that their next packet is judged in the direction that they were opened in,
// whichever side sends it. What a packet has made known since is taken back, as
// it was judged without that knowledge, except for a connection that the programs
// see open now, and for a flow that both sides have gone on with.
func (f *Flows) Seed(flows []datapath.Flow) error {
	var errs []error
	for _, flow := range flows {
		key, value := flowKeyOf(flow), seedOf(flow)
		errs = append(errs, f.seed(&key, &value), f.noteCalled(&key, &value))
	}
	return errors.Join(errs...)
}

func (f *Flows) seed(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue) error {
	have, kept, err := f.find(k)
	if err != nil || kept || have != nil && have.TcpState == stateSyn && have.Expires >= uint64(sinceBoot()) {
		return err
	}
	err = f.open.Update(k, v, ebpf.UpdateNoExist)
	switch {
	case err == nil && have != nil:
		return forget(f.opening, k)
	case err == nil || errors.Is(err, ebpf.ErrKeyExist): // it has moved there meanwhile
		return nil
	case errors.Is(err, errTableFull):
		return put(f.opening, k, v)
	}
	return flowErr("seed", k, err)
}

// each calls fn for every entry of a table.
func each(table *ebpf.Map, fn func(*bpfobj.PlexusCtKey, *bpfobj.PlexusCtValue)) error {
	unhurried := func() error { return nil }
	return batches(table, unhurried, func(keys []bpfobj.PlexusCtKey, values []bpfobj.PlexusCtValue) error {
		for i := range keys {
			fn(&keys[i], &values[i])
		}
		return nil
	})
}

func flowOf(k *bpfobj.PlexusCtKey, v *bpfobj.PlexusCtValue, now time.Duration) datapath.Flow {
	return datapath.Flow{
		Direction: policy.Direction(v.Direction),
		Protocol:  k.Protocol,
		Local:     netip.AddrPortFrom(k.Local.Netip(), bpfobj.NetworkOrder(k.LocalPort)),
		Remote:    netip.AddrPortFrom(k.Remote.Netip(), bpfobj.NetworkOrder(k.RemotePort)),
		Identity:  mesh.Identity(v.Identity),
		Rule:      policy.RuleID(v.Rule),
		Revision:  v.Revision,
		Tunnel:    k.Tunnel != 0,
		State:     stateNames[v.TcpState],
		Expires:   time.Duration(v.Expires) - now,
		RxPackets: v.RxPackets,
		RxBytes:   v.RxBytes,
		TxPackets: v.TxPackets,
		TxBytes:   v.TxBytes,
	}
}

func flowKeyOf(f datapath.Flow) bpfobj.PlexusCtKey {
	key := bpfobj.PlexusCtKey{
		Remote:     bpfobj.AddrOf(f.Remote.Addr()),
		Local:      bpfobj.AddrOf(f.Local.Addr()),
		RemotePort: bpfobj.NetworkOrder(f.Remote.Port()),
		LocalPort:  bpfobj.NetworkOrder(f.Local.Port()),
		Protocol:   f.Protocol,
	}
	if f.Tunnel {
		key.Tunnel = 1
	}
	return key
}

// seedOf returns an entry of no revision, which is judged at its first packet.
func seedOf(f datapath.Flow) bpfobj.PlexusCtValue {
	port := f.Local.Port()
	if f.Direction == policy.Egress {
		port = f.Remote.Port()
	}
	v := bpfobj.PlexusCtValue{
		Expires:    uint64(sinceBoot() + f.Expires),
		PolicyPort: bpfobj.NetworkOrder(port),
		Direction:  uint8(f.Direction),
		Flags:      replySeen | opened,
	}
	if f.Protocol == unix.IPPROTO_TCP || f.Protocol == unix.IPPROTO_SCTP {
		v.TcpState = stateEstablished
	}
	return v
}

// sinceBoot returns the clock that the programs read (bpf_ktime_get_boot_ns).
func sinceBoot() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // never fails for a clock that exists
	return time.Duration(ts.Nano())
}
