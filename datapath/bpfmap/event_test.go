package bpfmap

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/datapath/bpfobj"
	"github.com/plexusmesh/plexus/policy"
)

func encode(t testing.TB, e bpfobj.PlexusFlowEvent) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, e); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeEvent(t *testing.T) {
	boot := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	v4 := bpfobj.PlexusFlowEvent{
		Time: 1_500_000_000, Src: bpfobj.AddrOf(netip.MustParseAddr("192.0.2.9")), Dst: bpfobj.AddrOf(netip.MustParseAddr("192.0.2.1")),
		Sport: bpfobj.NetworkOrder(40000), Dport: bpfobj.NetworkOrder(22), Identity: 300, Rule: 7, Revision: 5, Length: 60, Ifindex: 3,
		Reason: uint8(bpfobj.PlexusDropReasonDROP_POLICY_DENY), Protocol: 6, TcpFlags: 2,
	}
	v6 := bpfobj.PlexusFlowEvent{
		Src: bpfobj.AddrOf(netip.MustParseAddr("fd00::1")), Dst: bpfobj.AddrOf(netip.MustParseAddr("fd00::2")),
		Sport: bpfobj.NetworkOrder(77), Direction: 1, Protocol: 58, IcmpType: 128, Tunnel: 1, Reply: 1,
	}
	for name, tt := range map[string]struct {
		in   bpfobj.PlexusFlowEvent
		want datapath.Event
	}{
		"drop": {v4, datapath.Event{
			Time: boot.Add(1500 * time.Millisecond), Dropped: true, Reason: "denied by rule", ReasonCode: 2, Protocol: 6, TCPFlags: 2,
			Src: netip.MustParseAddrPort("192.0.2.9:40000"), Dst: netip.MustParseAddrPort("192.0.2.1:22"),
			Remote: 300, Rule: 7, Revision: 5, Length: 60, Link: 3,
		}},
		"ping": {v6, datapath.Event{
			Time: boot, Direction: policy.Egress, Protocol: 58, ICMPType: 128, Tunnel: true, Reply: true,
			Src: netip.MustParseAddrPort("[fd00::1]:0"), Dst: netip.MustParseAddrPort("[fd00::2]:128"),
		}},
	} {
		got, err := decodeEvent(encode(t, tt.in), boot)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// FuzzDecodeEvent decodes any bytes without a crash, and refuses short ones.
func FuzzDecodeEvent(f *testing.F) {
	whole := encode(f, bpfobj.PlexusFlowEvent{Reason: 255, Protocol: 1})
	f.Add(whole)
	f.Add(whole[:71])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		ev, err := decodeEvent(raw, time.Unix(0, 0))
		if (err == nil) != (len(raw) >= len(whole)) {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
		if ev.Dropped != (ev.Reason != "") {
			t.Errorf("event %+v", ev)
		}
	})
}

// TestEventsRunEnds shows that a reader of a quiet ring stops when asked to.
func TestEventsRunEnds(t *testing.T) {
	maps, _ := newMaps(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- maps.Events.Run(ctx, func(e datapath.Event) { t.Errorf("event %+v", e) }) }()
	awaitStack(t, "EpollWait") // asked to stop in the middle of a read, not before it
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("asked to stop: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("reader did not stop")
	}
}

// awaitStack waits until some goroutine is in a function of that name.
func awaitStack(t *testing.T, function string) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		if bytes.Contains(buf[:runtime.Stack(buf, true)], []byte(function)) {
			return
		}
	}
	t.Fatalf("no goroutine is in %s", function)
}
