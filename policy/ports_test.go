package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPortRangeBlocks(t *testing.T) {
	for _, tt := range []struct {
		r    PortRange
		want []Key
	}{
		{PortRange{6, 80, 80}, []Key{{Protocol: 6, Port: 80, PortBits: 16}}},
		{PortRange{6, 0, 65535}, []Key{{Protocol: 6}}},
		{PortRange{0, 0, 65535}, []Key{{Protocol: 6}, {Protocol: 17}, {Protocol: 132}}},
		{PortRange{17, 80, 83}, []Key{{Protocol: 17, Port: 80, PortBits: 14}}},
		{PortRange{17, 79, 82}, []Key{{Protocol: 17, Port: 79, PortBits: 16}, {Protocol: 17, Port: 80, PortBits: 15}, {Protocol: 17, Port: 82, PortBits: 16}}},
		{PortRange{6, 65535, 65535}, []Key{{Protocol: 6, Port: 65535, PortBits: 16}}},
		{PortRange{6, 1024, 65535}, []Key{{Protocol: 6, Port: 1024, PortBits: 6}, {Protocol: 6, Port: 2048, PortBits: 5}, {Protocol: 6, Port: 4096, PortBits: 4},
			{Protocol: 6, Port: 8192, PortBits: 3}, {Protocol: 6, Port: 16384, PortBits: 2}, {Protocol: 6, Port: 32768, PortBits: 1}}},
		{PortRange{0, 22, 22}, []Key{{Protocol: 6, Port: 22, PortBits: 16}, {Protocol: 17, Port: 22, PortBits: 16}, {Protocol: 132, Port: 22, PortBits: 16}}},
	} {
		if diff := cmp.Diff(tt.want, tt.r.keys()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.r, diff)
		}
	}
	if n := len(PortRange{6, 1, 65534}.keys()); n != 30 {
		t.Errorf("the worst range has %d blocks, want 30", n)
	}
}

// FuzzPortRange checks that the blocks of a range are exactly its ports, that
// each is aligned, and that a lookup finds them.
func FuzzPortRange(f *testing.F) {
	for _, r := range [][2]uint16{{0, 0}, {0, 65535}, {1, 65534}, {80, 80}, {79, 82}, {1024, 65535}, {32767, 32768}} {
		f.Add(r[0], r[1])
	}
	f.Fuzz(func(t *testing.T, first, last uint16) {
		if first > last {
			first, last = last, first
		}
		r := PortRange{Protocol: protocolUDP, First: first, Last: last}
		keys := r.keys()
		if len(keys) > 30 {
			t.Errorf("%d to %d has %d blocks", first, last, len(keys))
		}
		next := uint32(first)
		for _, k := range keys {
			if uint32(k.Port) != next || k.Port&^portMask(k.PortBits) != 0 {
				t.Fatalf("%d to %d: block %+v, want one that begins at %d", first, last, k, next)
			}
			next += 1 << (16 - k.PortBits)
		}
		if next != uint32(last)+1 {
			t.Errorf("%d to %d: blocks end before %d", first, last, next)
		}
		checkLookups(t, r, keys)
	})
}

func checkLookups(t *testing.T, r PortRange, keys []Key) {
	t.Helper()
	v := Verdicts{Entries: make(map[Key]Entry)}
	for _, k := range keys {
		v.Entries[k] = Entry{}
	}
	for _, port := range []uint16{0, r.First - 1, r.First, r.First/2 + r.Last/2, r.Last, r.Last + 1, 65535} {
		inside := r.First <= port && port <= r.Last
		if got := v.Judge(Flow{Protocol: protocolUDP, Port: port}).Allowed; got != inside {
			t.Errorf("%+v: port %d is allowed %v, want %v", r, port, got, inside)
		}
	}
}

func TestKeyCovers(t *testing.T) {
	all, tcp := Key{}, Key{Protocol: 6}
	block, port := Key{Protocol: 6, Port: 80, PortBits: 12}, Key{Protocol: 6, Port: 90, PortBits: 16}
	for i, chain := 0, []Key{all, tcp, block, port}; i < len(chain); i++ {
		for j := range chain {
			if got := chain[i].Covers(chain[j]); got != (i <= j) {
				t.Errorf("%+v covers %+v: %v", chain[i], chain[j], got)
			}
		}
	}
	for _, other := range []Key{{Identity: 1}, {Direction: Egress}} {
		if all.Covers(other) {
			t.Errorf("%+v covers %+v", all, other)
		}
	}
	if block.Covers(Key{Protocol: 17, Port: 90, PortBits: 16}) || block.Covers(Key{Protocol: 6, Port: 96, PortBits: 16}) {
		t.Error("a block covers another protocol, or a port behind its end")
	}
}

func TestProtocolNames(t *testing.T) {
	for name, number := range map[string]uint8{"ANY": 0, "ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132,
		"VRRP": 112, "IGMP": 2, "GRE": 47, "IPIP": 4, "IPV6": 41, "ESP": 50, "AH": 51} {
		if got, err := ParseProtocol(name); err != nil || got != number || ProtocolName(number) != name {
			t.Errorf("%s is %d (%v), %d is %s", name, got, err, number, ProtocolName(number))
		}
	}
	if got := ProtocolName(103); got != "103" {
		t.Errorf("protocol 103 is called %s", got)
	}
	if _, err := ParseProtocol("103"); err == nil {
		t.Error("protocol 103 has a name")
	}
}
