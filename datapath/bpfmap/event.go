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
	for ctx.Err() == nil {
		r.SetDeadline(time.Now().Add(eventInterval))
		if err := drain(ctx, r, fn); err != nil {
			return err
		}
	}
	return nil
}

// eventInterval is how often the ring is looked at. Programs wake nobody before
// it is half full (bpf/lib/events.h).
const eventInterval = 100 * time.Millisecond

// drain calls fn for what is in the ring until the deadline of r, or the end of
// ctx. What is not read by then stays in the ring.
func drain(ctx context.Context, r *ringbuf.Reader, fn func(datapath.Event)) error {
	boot := time.Now().Add(-sinceBoot())
	var rec ringbuf.Record
	for ctx.Err() == nil {
		err := r.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read flow events: %w", err)
		}
		ev, err := decodeEvent(rec.RawSample, boot)
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
	e, err := flowEvent(raw)
	if err != nil {
		return datapath.Event{}, err
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

// eventSize is that of struct flow_event, in bytes.
var eventSize = binary.Size(bpfobj.PlexusFlowEvent{})

// flowEvent reads the struct by hand: binary.Decode would take as long for it as
// all the rest of the way of an event.
func flowEvent(raw []byte) (e bpfobj.PlexusFlowEvent, err error) {
	if len(raw) < eventSize {
		return e, fmt.Errorf("decode flow event of %d bytes: it has %d at least", len(raw), eventSize)
	}
	order := binary.NativeEndian
	e.Time = order.Uint64(raw)
	copy(e.Src.Bytes[:], raw[8:])
	copy(e.Dst.Bytes[:], raw[24:])
	e.Sport, e.Dport = order.Uint16(raw[40:]), order.Uint16(raw[42:])
	e.Identity, e.Rule = order.Uint32(raw[44:]), order.Uint32(raw[48:])
	e.Revision, e.Length, e.Ifindex = order.Uint32(raw[52:]), order.Uint32(raw[56:]), order.Uint32(raw[60:])
	e.Direction, e.Reason, e.Protocol, e.IcmpType = raw[64], raw[65], raw[66], raw[67]
	e.TcpFlags, e.Tunnel, e.Reply = raw[68], raw[69], raw[70]
	return e, nil
}
