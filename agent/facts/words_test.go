package facts

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
)

// Servers refuse a claim with more pinholes than it may hold, and believe that
// what a part of them leaves out is closed.
func TestWordsOfTooManyPinholesAreNone(t *testing.T) {
	holes := make([]datapath.Pinhole, maxWords)
	for i := range holes {
		holes[i] = datapath.Pinhole{Protocol: tcp, Port: uint16(i + 1)}
	}
	if got := Words(holes); len(got) != maxWords {
		t.Errorf("%d words of %d pinholes", len(got), maxWords)
	}
	if got := Words(append(holes, datapath.Pinhole{Protocol: udp, Port: 1})); got != nil {
		t.Errorf("%d words of one pinhole more than a claim holds, want none at all", len(got))
	}
	if diff := cmp.Diff([]string{"ingress 22/TCP"}, Words([]datapath.Pinhole{{Protocol: tcp, Port: 22}, {Protocol: tcp, Port: 22}})); diff != "" {
		t.Errorf("words (-want +got):\n%s", diff)
	}
}
