package bpfmap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// Events is the ring of flow events. It has one reader at a time.
type Events struct {
	ring *ebpf.Map
}

// Run calls fn for every event, in order, until ctx ends; then it returns nil.
// Events that arrive while fn is busy wait in the ring, and are lost, and
// counted, once that is full.
func (e *Events) Run(ctx context.Context, fn func(datapath.Event)) error {
	r, err := ringbuf.NewReader(e.ring)
	if err != nil {
		return fmt.Errorf("open flow events: %w", err)
	}
	defer r.Close()
	// A deadline would not do: setting one waits for the lock that a read holds
	// until the next event. What is not read yet stays in the ring.
	defer context.AfterFunc(ctx, func() { r.Close() })()
	var rec ringbuf.Record
	for ctx.Err() == nil {
		err := r.ReadInto(&rec)
		if errors.Is(err, os.ErrClosed) {
			return nil // ctx has ended
		}
		if err != nil {
			return fmt.Errorf("read flow events: %w", err)
		}
		ev, err := decodeEvent(rec.RawSample, time.Now().Add(-sinceBoot()))
		if err != nil {
			return err
		}
		fn(ev)
	}
	return nil
}

// decodeEvent reads struct flow_event. boot is the time of day at which the
// kernel's clock of events was zero.
func decodeEvent(raw []byte, boot time.Time) (datapath.Event, error) {
	var e bpfobj.PlexusFlowEvent
	if _, err := binary.Decode(raw, binary.NativeEndian, &e); err != nil {
		return datapath.Event{}, fmt.Errorf("decode flow event of %d bytes: %w", len(raw), err)
	}
	ev := datapath.Event{
		Time:       boot.Add(time.Duration(e.Time)).Round(0),
		Direction:  policy.Direction(e.Direction),
		Dropped:    e.Reason != 0,
		ReasonCode: e.Reason,
		Protocol:   e.Protocol,
		Src:        netip.AddrPortFrom(e.Src.Netip(), bpfobj.NetworkOrder(e.Sport)),
		Dst:        netip.AddrPortFrom(e.Dst.Netip(), bpfobj.NetworkOrder(e.Dport)),
		ICMPType:   e.IcmpType,
		TCPFlags:   e.TcpFlags,
		Remote:     mesh.Identity(e.Identity),
		Rule:       policy.RuleID(e.Rule),
		Revision:   e.Revision,
		Length:     e.Length,
		Link:       e.Ifindex,
		Tunnel:     e.Tunnel != 0,
		Reply:      e.Reply != 0,
	}
	if ev.Dropped {
		ev.Reason = bpfobj.PlexusDropReason(e.Reason).String()
	}
	if e.Protocol == unix.IPPROTO_ICMP || e.Protocol == unix.IPPROTO_ICMPV6 {
		ev.Src = netip.AddrPortFrom(ev.Src.Addr(), 0)
		ev.Dst = netip.AddrPortFrom(ev.Dst.Addr(), uint16(e.IcmpType))
	}
	return ev, nil
}
