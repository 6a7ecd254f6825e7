package registry

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/plexusmesh/plexus/control"
)

// BenchmarkEnrol is one host's enrolment, etcd user included, on a server whose
// etcd does not wait for the disk.
func BenchmarkEnrol(b *testing.B) {
	f := newMesh(b, "10.210.0.0/16")
	tok := f.token(TokenOptions{Uses: maxUses})
	requests := make([]control.JoinRequest, 0, maxUses)
	for i := range min(b.N, maxUses) {
		requests = append(requests, joinRequest(b, tok, fmt.Sprintf("h%d", i), "192.0.2.11"))
	}
	b.ResetTimer()
	for i := range b.N {
		if _, err := f.Enrol(b.Context(), requests[i%len(requests)], netip.Addr{}); err != nil {
			b.Fatal(err)
		}
	}
}
