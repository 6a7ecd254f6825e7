package device

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	nl "github.com/vishvananda/netlink"

	"github.com/plexusmesh/plexus/internal/netnstest"
)

func TestWhatLooksLikeHardware(t *testing.T) {
	f := gathered(t, link{name: "lo", kind: "device", lo: true}, link{name: "eth0", kind: "device", down: true},
		link{name: "bond0", kind: "bond"}, link{name: "veth1", kind: "veth"})
	want := []Link{{Name: "eth0", Index: 2, Physical: true}, {Name: "bond0", Index: 3}, {Name: "veth1", Index: 4}}
	if diff := cmp.Diff(want, outside(f.links)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestLinksAreFollowedUntilEnoughIsSeen(t *testing.T) {
	netnstest.Run(t, func() {
		var seen [][]Link
		err := FollowLinks(t.Context(), func(all []Link) bool {
			seen = append(seen, all)
			if len(seen) == 1 { // what comes after this look is news
				if err := nl.LinkAdd(&nl.Veth{LinkAttrs: nl.LinkAttrs{Name: "late0"}, PeerName: "late1"}); err != nil {
					t.Error(err)
				}
			}
			return len(all) == 2
		})
		if err != nil || len(seen[0]) != 0 || !Exists("late0") || Exists("never0") {
			t.Errorf("seen %v, %v", seen, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := FollowLinks(ctx, func([]Link) bool { cancel(); return false }); err != nil {
			t.Errorf("ended by its context: %v", err)
		}
	})
}
