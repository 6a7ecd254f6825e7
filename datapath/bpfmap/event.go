package bpfmap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
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

	mu     sync.Mutex
	reader *ringbuf.Reader // while Run runs
	asked  []chan struct{} // by CatchUp, since Run looked last
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
	e.begin(r)
	defer e.end()
	for ctx.Err() == nil {
		if err := e.look(ctx, r, fn); err != nil {
			return err
		}
	}
	return nil
}

// CatchUp returns once Run has handed on every event that was in the ring when
// CatchUp was called. It does not wait for a Run that is not there or ends.
func (e *Events) CatchUp(ctx context.Context) error {
	done, err := e.ask()
	if err != nil {
		return fmt.Errorf("ask for flow events: %w", err)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for flow events: %w", ctx.Err())
	}
}

// ask wakes the reader, and returns a channel that is closed once it has read.
func (e *Events) ask() (<-chan struct{}, error) {
	done := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reader == nil {
		close(done)
		return done, nil
	}
	e.asked = append(e.asked, done)
	return done, e.reader.Flush()
}

func (e *Events) begin(r *ringbuf.Reader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reader = r
}

func (e *Events) end() {
	e.mu.Lock()
	e.reader = nil
	e.mu.Unlock()
	answer(e.taken())
}

// taken returns who has asked since it was last called.
func (e *Events) taken() []chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = nil
	return asked
}

func answer(asked []chan struct{}) {
	for _, done := range asked {
		close(done)
	}
}

// eventInterval is how often the ring is looked at. Programs wake nobody before
// it is half full (bpf/lib/events.h).
const eventInterval = 100 * time.Millisecond

// look waits for events, unless someone asks for what is there, and reads them.
// Who asks while it reads is answered by the next look: an event that he means
// may have come after the ring was found empty.
func (e *Events) look(ctx context.Context, r *ringbuf.Reader, fn func(datapath.Event)) error {
	asked := e.taken()
	defer answer(asked)
	deadline := time.Now()
	if len(asked) == 0 {
		deadline = deadline.Add(eventInterval)
	}
	r.SetDeadline(deadline)
	return drain(ctx, r, fn)
}

// drain calls fn for what is in the ring: until that is empty at the deadline of
// r or when someone asks, or for as many events as find room there, as under a
// flood it is never empty; or until ctx ends. What is not read by then stays.
func drain(ctx context.Context, r *ringbuf.Reader, fn func(datapath.Event)) error {
	boot := time.Now().Add(-sinceBoot())
	var rec ringbuf.Record
	for n := r.BufferSize() / eventSize; n > 0 && ctx.Err() == nil; n-- {
		err := r.ReadInto(&rec)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed) {
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
