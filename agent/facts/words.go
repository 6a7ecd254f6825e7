package facts

import (
	"slices"

	"github.com/plexusmesh/plexus/datapath"
)

// maxWords is how many pinholes a claim holds at most (kvstore/schema refuses more).
const maxWords = 512

// Words returns pinholes as a claim holds them: each as ParseFailsafe and
// datapath.ParsePinhole read it, sorted, and not nil. More than a claim can hold
// are nil, "not known": a part of them would have servers believe that the rest
// is closed.
func Words(holes []datapath.Pinhole) []string {
	if len(holes) > maxWords {
		return nil
	}
	out := make([]string, 0, len(holes))
	for _, h := range holes {
		out = append(out, h.String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
