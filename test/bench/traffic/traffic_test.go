package traffic

import (
	"net/netip"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

// here is the namespace of the test, whose loopback is the path.
func here(fn func() error) error { return fn() }

func TestLoads(t *testing.T) {
	netnstest.Require(t)
	path := Path{
		From: here, Source: netip.MustParseAddrPort("127.0.0.1:0"),
		To: here, Destination: netip.MustParseAddrPort("127.0.0.1:45201"),
	}
	for name, open := range map[string]func(Path) (Load, error){
		"udp":         func(p Path) (Load, error) { return NewUDP(p) },
		"stream":      func(p Path) (Load, error) { return NewStream(p) },
		"connections": func(p Path) (Load, error) { return NewConnections(p) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}()
			for range 2 { // a load can be measured again
				rate, err := l.Measure(Span{Warm: time.Millisecond, Count: 5 * time.Millisecond})
				if err != nil || rate <= 0 {
					t.Errorf("rate %g, %v: want some", rate, err)
				}
			}
		})
	}
}

func TestLoadsNeedAnAnswer(t *testing.T) {
	netnstest.Require(t)
	// Nothing can be bound to an address that is not of this machine.
	away := Path{From: here, Source: netip.MustParseAddrPort("127.0.0.1:0"), To: here, Destination: netip.MustParseAddrPort("198.51.100.1:45201")}
	if _, err := NewUDP(away); err == nil {
		t.Error("a load to nowhere was opened")
	}
	if _, err := NewConnections(away); err == nil {
		t.Error("connections to nowhere were opened")
	}
}
