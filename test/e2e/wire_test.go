package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/lab"
)

// TestEncryption watches the wire while members talk by mesh addresses, and
// while their tunnel is broken on purpose.
func TestEncryption(t *testing.T) {
	m := newTrio(t)
	serve(t, m.db.Host, "5432")
	t.Run("nothing crosses in plaintext", func(t *testing.T) {
		m.watch(t, func() { m.talk(t, func() {}).unharmed(t, "TCP by mesh address") })
	})
	t.Run("a watcher sees what is not encrypted", m.testWatcherWorks)
	for name, breakTunnel := range map[string]func(*testing.T){
		"the device is deleted": m.deleteDevice, "the helper is killed": m.killHelper,
	} {
		t.Run("plaintext never when "+name, func(t *testing.T) {
			m.watch(t, func() { m.talk(t, func() { breakTunnel(t) }) })
			m.converge(t)
		})
	}
	t.Run("the guard needs neither tunnel nor daemon", m.testGuard)
	t.Run("a stranger's mesh address is a spoof", m.testSpoof)
}

// talk has web send to db over both families and protocols, does something in
// the middle, and sends on until the tunnel carries traffic again.
func (m *trio) talk(t *testing.T, middle func()) report {
	t.Helper()
	tcp := stream(t, m.web.Host, target("tcp", m.db.mesh4, 5432))
	others := []*program{stream(t, m.web.Host, target("udp", m.db.mesh6, 5432)), stream(t, m.web.Host, target("tcp", m.db.mesh6, 5432))}
	middle()
	expect(t, m.web.Host, echoed, target("tcp", m.db.mesh4, 5432), target("udp", m.db.mesh6, 5432))
	for _, s := range append(others, tcp) {
		s.stdin.Close()
	}
	for _, s := range others {
		s.finish(t)
	}
	return tcp.finish(t)
}

// watch captures all that crosses the underlay during fn and checks that it is
// encrypted where it must be.
func (m *trio) watch(t *testing.T, fn func()) {
	t.Helper()
	c, err := m.lab.Capture()
	if err != nil {
		t.Fatal(err)
	}
	fn()
	packets, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	tunnelled := 0
	for _, p := range packets {
		if isWireGuard(p.Data) {
			tunnelled++
		}
		if why := m.plaintext(p.Data); why != "" {
			t.Errorf("plaintext on the wire: %s in % x", why, p.Data[:min(len(p.Data), 128)])
		}
	}
	t.Logf("%d frames, %d of them WireGuard data", len(packets), tunnelled)
	if tunnelled < 50 {
		t.Errorf("%d of %d frames are WireGuard data; want the traffic", tunnelled, len(packets))
	}
}

// plaintext says what of the traffic between mesh addresses can be read in a
// frame: the payload, or a mesh address anywhere outside of encryption.
func (m *trio) plaintext(frame []byte) string {
	if bytes.Contains(frame, []byte(mark)) {
		return "the payload"
	}
	src, dst, _ := ipOf(frame)
	for _, h := range m.hosts() {
		for _, a := range []netip.Addr{h.mesh4, h.mesh6} {
			if a == src || a == dst {
				return "mesh address " + a.String()
			}
		}
	}
	return ""
}

const ethernetLen = 14

// ipOf returns addresses and payload of the IP packet in an Ethernet frame; the
// zero Addr for what is none, and for the addresses that ARP asks for.
func ipOf(frame []byte) (src, dst netip.Addr, payload []byte) {
	if len(frame) < ethernetLen {
		return src, dst, nil
	}
	packet := frame[ethernetLen:]
	switch kind := binary.BigEndian.Uint16(frame[12:]); {
	case kind == 0x0800 && len(packet) >= 20:
		src, dst, payload = addr(packet[12:16]), addr(packet[16:20]), packet[int(packet[0]&15)*4:]
	case kind == 0x86dd && len(packet) >= 40:
		src, dst, payload = addr(packet[8:24]), addr(packet[24:40]), packet[40:]
	case kind == 0x0806 && len(packet) >= 28:
		src, dst = addr(packet[14:18]), addr(packet[24:28])
	}
	return src, dst, payload
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

// isWireGuard knows a transport data message by the ports and its type.
func isWireGuard(frame []byte) bool {
	_, _, udp := ipOf(frame)
	return len(udp) >= 12 && binary.BigEndian.Uint16(udp) == 51871 && binary.BigEndian.Uint16(udp[2:]) == 51871 &&
		binary.LittleEndian.Uint32(udp[8:]) == 4
}

// testWatcherWorks sends the same message by a node address, which is not
// tunnelled: the watcher must see it there.
func (m *trio) testWatcherWorks(t *testing.T) {
	c, err := m.lab.Capture()
	if err != nil {
		t.Fatal(err)
	}
	expect(t, m.stranger, echoed, target("udp", m.db.Addr4, 5432))
	packets, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range packets {
		if m.plaintext(p.Data) == "the payload" {
			seen++
		}
	}
	if seen == 0 {
		t.Errorf("none of %d frames shows the payload that a stranger sent", len(packets))
	}
}

func (m *trio) deleteDevice(t *testing.T) {
	before := m.device(t)
	if err := m.web.Run(t.Context(), "ip", "link", "delete", "plexus0"); err != nil {
		t.Fatal(err)
	}
	m.awaitDevice(t, before)
}

// killHelper ends the process behind the device. Where the kernel has WireGuard
// there is none, and the device goes as above.
func (m *trio) killHelper(t *testing.T) {
	pid, err := os.ReadFile(m.web.Path("/run/plexus/wireguard-plexus0.pid"))
	if os.IsNotExist(err) {
		m.deleteDevice(t)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	before := m.device(t)
	n, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil { // one process-id namespace for all hosts
		t.Fatal(err)
	}
	m.awaitDevice(t, before)
}

// device returns the interface number of web's tunnel, which no other has had.
func (m *trio) device(t *testing.T) string {
	out, err := m.web.Output(t.Context(), "cat", "/sys/class/net/plexus0/ifindex")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func (m *trio) awaitDevice(t *testing.T, before string) {
	t.Helper()
	start := time.Now()
	lab.Eventually(t, settled, "the tunnel is repaired", func() error {
		if now := m.device(t); now == "" || now == before {
			return fmt.Errorf("plexus0 has number %q; it had %q", now, before)
		}
		return nil
	})
	t.Logf("plexus0 was back after %v", time.Since(start))
}
