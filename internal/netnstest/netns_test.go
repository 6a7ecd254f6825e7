package netnstest

import (
	"net"
	"os"
	"testing"
)

func TestRunIsolates(t *testing.T) {
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	Run(t, func() {
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Flags&net.FlagUp == 0 {
			t.Errorf("interfaces in a fresh namespace: %v, %v; want loopback alone, up", links, err)
		}
		if err := os.Mkdir("/sys/fs/bpf/plexus", 0o700); err != nil {
			t.Errorf("use the namespace's own BPF file system: %v", err)
		}
	})
	after, err := net.Interfaces()
	if err != nil || len(after) != len(before) {
		t.Fatalf("interfaces outside: %v, %v; want %v", after, err, before)
	}
}
