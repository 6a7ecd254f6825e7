package loader

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

// TestFullTableOfOpenFlows opens one flow more than there is room for.
func TestFullTableOfOpenFlows(t *testing.T) {
	for _, f := range families {
		netnstest.Run(t, func() {
			h := newHost(t)
			h.load(fenceForParleys().set())
			fullOf := flowTable{}
			for i := range uint16(h.objs.PlexusCtV2.MaxEntries()) {
				fullOf[10*i] = ctValue(t, tcpOpen, replied, time.Hour)
			}
			fullOf.write(t, h.objs.PlexusCtV2)
			late := parley{"the one too many", packet{src: f.peer, dst: f.us, proto: tcp, sport: 9, dport: 53}, false, false}
			late.begin(h)
			if flows := h.known(9); len(flows) != 1 || flows[0].Open || flows[0].State != "established" {
				t.Errorf("%s: known is %+v, want a flow that is not among the open ones", f.name, flows)
			}
			if n, err := h.maps.Counters.TurnedAway(); n == 0 || err != nil {
				t.Errorf("%s: %d packets turned away, %v; want some", f.name, n, err)
			}
			if late.say(h, false, ack) != pass {
				t.Errorf("%s: a flow without room is cut", f.name)
			}
			if got := len(readFlows(t, h.objs.PlexusCtV2)); got != len(fullOf) {
				t.Errorf("%s: of %d flows, %d are known", f.name, len(fullOf), got)
			}
			h.makeRoom(late)
		})
	}
}

// makeRoom ends another flow and sweeps it: then the late one moves.
func (h *host) makeRoom(late parley) {
	h.t.Helper()
	flowTable{10: ctValue(h.t, tcpOpen, replied, -time.Minute)}.write(h.t, h.objs.PlexusCtV2)
	if swept, err := h.maps.Flows.Sweep(func() error { return nil }); swept.Removed != 1 || err != nil {
		h.t.Fatalf("swept %+v, %v; want one", swept, err)
	}
	if _, err := h.maps.Policy.Rejudge(); err != nil { // so that no CPU passes it unseen
		h.t.Fatal(err)
	}
	if late.say(h, true, ack) != pass {
		h.t.Error("a flow that finds room is cut")
	}
	if flows := h.known(9); len(flows) != 1 || !flows[0].Open {
		h.t.Errorf("with room, known is %+v, want an open flow", flows)
	}
}

// TestPacketsAreCountedOnEveryCPU feeds a flow on two CPUs, if there are two, by
// the short way and by the long one, and compares every packet.
func TestPacketsAreCountedOnEveryCPU(t *testing.T) {
	const rounds, each = 4, 50
	for _, f := range families {
		for _, proto := range []uint8{tcp, udp} {
			netnstest.Run(t, func() {
				h := newHost(t)
				h.load(fenceForParleys().set())
				d := parley{f.name, packet{src: f.peer, dst: f.us, proto: proto, sport: 9, dport: 53, payload: make([]byte, 100)}, false, false}
				d.begin(h)
				cpus := twoCPUs(t)
				rx, tx := 2, 1
				for round := range rounds {
					runOn(t, cpus[round%len(cpus)])
					for i := range each {
						if d.say(h, i%3 != 0, ack) != pass {
							t.Fatalf("%s: cut", d.name)
						}
						if i%3 != 0 {
							rx++
						} else {
							tx++
						}
					}
					h.checkCounted(d, rx, tx)
					if round == 1 { // the long way again
						if _, err := h.maps.Policy.Rejudge(); err != nil {
							t.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func (h *host) checkCounted(d parley, rx, tx int) {
	h.t.Helper()
	size := uint64(len(d.first.ip()))
	flow := h.flow()
	if flow.RxPackets != uint64(rx) || flow.TxPackets != uint64(tx) || flow.RxBytes != uint64(rx)*size || flow.TxBytes != uint64(tx)*size {
		h.t.Errorf("%s: counted %+v, want %d packets in and %d out, of %d bytes", d.name, flow, rx, tx, size)
	}
	counters, err := h.maps.Counters.List()
	if err != nil {
		h.t.Fatal(err)
	}
	var passed uint64
	for _, c := range counters {
		passed += c.Packets
	}
	if passed != uint64(rx+tx) {
		h.t.Errorf("%s: %d packets in all counters, want %d", d.name, passed, rx+tx)
	}
}

// twoCPUs returns two that this thread may run on, or the one that there is.
func twoCPUs(t *testing.T) (out []int) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; len(out) < min(2, all.Count()); cpu++ {
		if all.IsSet(cpu) {
			out = append(out, cpu)
		}
	}
	return out
}

// runOn has this thread run on one CPU. netnstest throws it away afterwards.
func runOn(t *testing.T, cpu int) {
	t.Helper()
	var one unix.CPUSet
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}
