package socket

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

// TestEnd ends what comes from an address, of both protocols and families, and
// nothing else.
func TestEnd(t *testing.T) {
	for _, tt := range []struct{ name, prefix, host, other, otherPrefix string }{
		{"IPv4", "192.0.2.7/32", "192.0.2.7", "192.0.2.8", "192.0.2.8/32"},
		{"IPv6", "2001:db8::7/128", "2001:db8::7", "2001:db8::8", "2001:db8::8/128"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netnstest.Run(t, func() {
				addressed(t, tt.prefix)
				addressed(t, tt.otherPrefix)
				doomed, spared := connections(t, tt.host), connections(t, tt.other)
				if err := End([]netip.Addr{netip.MustParseAddr(tt.host)}); err != nil {
					t.Fatal(err)
				}
				for _, c := range doomed {
					if _, err := c.Write([]byte("x")); err == nil {
						t.Errorf("%s from %s goes on: %v", c.LocalAddr().Network(), c.LocalAddr(), err)
					}
				}
				for _, c := range spared {
					if _, err := c.Write([]byte("x")); err != nil {
						t.Errorf("%s from %s was ended: %v", c.LocalAddr().Network(), c.LocalAddr(), err)
					}
				}
				again, err := net.Dial("tcp", doomed[0].RemoteAddr().String())
				if err != nil {
					t.Fatalf("nobody waits for connections any more: %v", err)
				}
				again.Close()
			})
		})
	}
}

// connections are one of each protocol, from an address to itself.
func connections(t *testing.T, host string) []net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	sink, err := net.ListenPacket("udp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	var out []net.Conn
	_, port, _ := net.SplitHostPort(sink.LocalAddr().String())
	for network, to := range map[string]string{"tcp": l.Addr().String(), "udp": net.JoinHostPort(host, port)} {
		c := dialSoon(t, network, to)
		t.Cleanup(func() { c.Close() })
		if network == "tcp" {
			out = append([]net.Conn{c}, out...)
			continue
		}
		out = append(out, c)
	}
	return out
}

// dialSoon dials until that works: an IPv6 address is not reached at once.
func dialSoon(t *testing.T, network, to string) net.Conn {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	for {
		c, err := net.DialTimeout(network, to, 100*time.Millisecond)
		if err == nil {
			return c
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
	}
}
