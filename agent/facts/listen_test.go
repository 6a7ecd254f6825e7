package facts

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/mesh"
)

// sockets renders sockets as the kernel does, in the byte order of this machine.
func sockets(state string, locals ...string) string {
	var b strings.Builder
	b.WriteString("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n")
	for i, local := range locals {
		at := netip.MustParseAddrPort(local)
		raw := at.Addr().AsSlice()
		for w := 0; w < len(raw); w += 4 {
			slices.Reverse(raw[w : w+4])
		}
		fmt.Fprintf(&b, "%4d: %X:%04X 00000000:0000 %s 00000000:00000000 00:00000000 00000000  1000        0 %d 2 0\n", i, raw, at.Port(), state, 100+i)
	}
	return b.String()
}

// host is a procfs with sockets by table.
func host(t *testing.T, tables map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "sys/net/ipv4/ip_local_port_range"), "32768\t60999\n")
	for name, content := range tables {
		write(t, filepath.Join(root, "self/net", name), content)
	}
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestListening(t *testing.T) {
	named := []mesh.NamedPort{{Name: "high", Port: 50000, Protocol: "TCP"}}
	for _, tt := range []struct {
		name   string
		tables map[string]string
		want   []mesh.Listener
	}{
		{"nothing", nil, []mesh.Listener{}},
		{"any address, of both families", map[string]string{
			"tcp": sockets(tcpListen, "0.0.0.0:443"), "tcp6": sockets(tcpListen, "[::]:443", "[::]:80"),
		}, []mesh.Listener{{Protocol: "TCP", Port: 80}, {Protocol: "TCP", Port: 443}}},
		{"loopback alone", map[string]string{
			"tcp": sockets(tcpListen, "127.0.0.1:25", "127.1.2.3:26"), "tcp6": sockets(tcpListen, "[::1]:27", "[::ffff:127.0.0.1]:28"),
			"udp": sockets(udpBound, "127.0.0.53:53"),
		}, []mesh.Listener{}},
		{"loopback and more", map[string]string{
			"tcp": sockets(tcpListen, "127.0.0.1:25", "192.0.2.1:25"),
		}, []mesh.Listener{{Protocol: "TCP", Port: 25}}},
		{"connections", map[string]string{
			"tcp": sockets("01", "192.0.2.1:22"), "udp": sockets("01", "192.0.2.1:123"),
		}, []mesh.Listener{}},
		{"ports of clients", map[string]string{
			"tcp": sockets(tcpListen, "0.0.0.0:32767", "0.0.0.0:32768"), "udp": sockets(udpBound, "0.0.0.0:40000"),
		}, []mesh.Listener{{Protocol: "TCP", Port: 32767}}},
		{"a port of clients that is declared", map[string]string{
			"tcp": sockets(tcpListen, "0.0.0.0:50000"), "udp": sockets(udpBound, "0.0.0.0:50000"),
		}, []mesh.Listener{{Protocol: "TCP", Port: 50000}}},
		{"UDP", map[string]string{
			"udp": sockets(udpBound, "0.0.0.0:68"), "udp6": sockets(udpBound, "[2001:db8::1]:546"),
		}, []mesh.Listener{{Protocol: "UDP", Port: 68}, {Protocol: "UDP", Port: 546}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := NewLooks(host(t, tt.tables), named).Look()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Listening); diff != "" {
				t.Errorf("listening (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLooksForgetSlowly restarts a server between looks.
func TestLooksForgetSlowly(t *testing.T) {
	root := host(t, nil)
	looks := NewLooks(root, nil)
	for i, step := range []struct {
		table string
		found bool
	}{
		{sockets(tcpListen, "0.0.0.0:22"), true},
		{sockets(tcpListen), true},
		{sockets(tcpListen, "0.0.0.0:22"), true},
		{sockets(tcpListen), true},
		{sockets(tcpListen), false},
	} {
		// Only root's sockets count for SSH.
		write(t, filepath.Join(root, "self/net/tcp"), strings.ReplaceAll(step.table, "  1000 ", "     0 "))
		got, err := looks.Look()
		if err != nil {
			t.Fatal(err)
		}
		if (len(got.Listening) == 1) != step.found || (len(got.SSH) == 1) != step.found {
			t.Errorf("look %d finds %+v, want a server: %v", i, got, step.found)
		}
	}
}

func TestTooManyListenersAreNotKnown(t *testing.T) {
	var many []string
	for i := range maxListeners + 1 {
		many = append(many, fmt.Sprintf("0.0.0.0:%d", 1000+i))
	}
	for n, known := range map[int]bool{maxListeners: true, maxListeners + 1: false} {
		got, err := NewLooks(host(t, map[string]string{"tcp": sockets(tcpListen, many[:n]...)}), nil).Look()
		if err != nil || (got.Listening != nil) != known {
			t.Errorf("%d listeners: known %v, %v", n, got.Listening != nil, err)
		}
	}
}

func TestLookNamesWhatItCannotRead(t *testing.T) {
	for name, damage := range map[string]map[string]string{
		"XXXX":      {"self/net/udp": strings.Replace(sockets(udpBound, "0.0.0.0:53"), ":0035", ":XXXX", 1)},
		"010203:16": {"self/net/tcp": "heading\n 0: 010203:16 0:0 0A 0:0 0:0 0 0 0 1\n"},
		"low":       {"sys/net/ipv4/ip_local_port_range": "low\thigh\n"},
	} {
		root := host(t, nil)
		for path, content := range maps.All(damage) {
			write(t, filepath.Join(root, path), content)
		}
		if _, err := NewLooks(root, nil).Look(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %q in it", err, name)
		}
	}
}

// The real procfs has the format that the tests above assume.
func TestListeningOnThisKernel(t *testing.T) {
	var named []mesh.NamedPort
	declare := func(a net.Addr, protocol string) mesh.Listener {
		port := netip.MustParseAddrPort(a.String()).Port()
		named = append(named, mesh.NamedPort{Name: "a", Port: port, Protocol: protocol})
		return mesh.Listener{Protocol: protocol, Port: port}
	}
	everywhere, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	loopback, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer loopback.Close()
	packets, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	want := []mesh.Listener{declare(everywhere.Addr(), "TCP"), declare(packets.LocalAddr(), "UDP")}
	local := declare(loopback.Addr(), "TCP")
	got, err := listeners("/proc", named)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range want {
		if !slices.Contains(got, l) {
			t.Errorf("listeners %v, want %v among them", got, l)
		}
	}
	if slices.Contains(got, local) {
		t.Errorf("listeners %v, with %v on loopback", got, local)
	}
}

func FuzzParseSockets(f *testing.F) {
	f.Add(table)
	f.Add(sockets(udpBound, "[2001:db8::1]:546"))
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseSockets(strings.NewReader(text))
		for _, s := range all {
			if err == nil && !s.local.Addr().IsValid() {
				t.Errorf("%q has socket %+v", text, s)
			}
		}
	})
}
