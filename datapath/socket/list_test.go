package socket

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	nl "github.com/vishvananda/netlink"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/internal/netnstest"
	"github.com/plexusmesh/plexus/policy"
)

// addressed gives loopback an address that counts as one of another host.
func addressed(t *testing.T, address string) {
	t.Helper()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	a, err := nl.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if a.IP.To4() == nil {
		a.Flags = 0x02 // IFA_F_NODAD
	}
	if err := nl.AddrAdd(lo, a); err != nil {
		t.Fatal(err)
	}
}

// Both ends of each connection are in the namespace, so each shows twice: once
// as opened by the other side and once as opened by us.
func TestListTellsWhoOpened(t *testing.T) {
	for _, tt := range []struct{ name, prefix, host string }{
		{"IPv4", "192.0.2.7/32", "192.0.2.7"},
		{"IPv6", "2001:db8::7/128", "2001:db8::7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				addressed(t, tt.prefix)
				server, client := tcpPair(t, tt.host)
				udp := udpClient(t, tt.host)
				got, err := List()
				if err != nil {
					t.Fatal(err)
				}
				want(t, got, datapath.Flow{Direction: policy.Ingress, Protocol: 6, Local: server, Remote: client})
				want(t, got, datapath.Flow{Direction: policy.Egress, Protocol: 6, Local: client, Remote: server})
				want(t, got, datapath.Flow{Direction: policy.Egress, Protocol: 17, Local: udp[0], Remote: udp[1]})
				if len(got) != 3 {
					t.Errorf("listed %v, want these three alone", got)
				}
			})
		})
	}
}

func want(t *testing.T, got []datapath.Flow, f datapath.Flow) {
	t.Helper()
	for _, g := range got {
		if g.Local == f.Local && g.Remote == f.Remote && g.Protocol == f.Protocol {
			if g.Direction != f.Direction || g.Expires <= 0 {
				t.Errorf("listed %+v, want direction %v and time to live", g, f.Direction)
			}
			return
		}
	}
	t.Errorf("listed %v, want one from %v to %v", got, f.Local, f.Remote)
}

func tcpPair(t *testing.T, host string) (server, client netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c := dialSoon(t, "tcp", l.Addr().String())
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return netip.MustParseAddrPort(s.LocalAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
}

func udpClient(t *testing.T, host string) [2]netip.AddrPort {
	t.Helper()
	c, err := net.Dial("udp", net.JoinHostPort(host, "9999"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return [2]netip.AddrPort{netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())}
}

func TestConnectionsWithinTheHostAreLeftOut(t *testing.T) {
	netnstest.Run(t, func() {
		tcpPair(t, "127.0.0.1")
		got, err := List()
		if err != nil || len(got) != 0 {
			t.Errorf("listed %v, %v; want nothing", got, err)
		}
	})
}

// A side that has said all it will say still hears the other, as a program does
// that sends a request to the end of file.
func TestHalfClosedConnectionsAreListed(t *testing.T) {
	netnstest.Run(t, func() {
		addressed(t, "192.0.2.7/32")
		l, err := net.Listen("tcp", "192.0.2.7:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("read from the closed side: %v, want the end", err)
		}
		got, err := List()
		if err != nil {
			t.Fatal(err)
		}
		server, client := netip.MustParseAddrPort(s.LocalAddr().String()), netip.MustParseAddrPort(c.LocalAddr().String())
		want(t, got, datapath.Flow{Direction: policy.Ingress, Protocol: 6, Local: server, Remote: client})
		want(t, got, datapath.Flow{Direction: policy.Egress, Protocol: 6, Local: client, Remote: server})
	})
}
