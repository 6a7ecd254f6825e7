package agent

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

// A host whose enrolment is lost may still hold the CA of a mesh. To refuse init
// there, and to fail to join, must leave that alone; leave --force removes it.
func TestOnlyLeaveRemovesWhatIsLeftOfAMesh(t *testing.T) {
	netnstest.Run(t, func() {
		dir := t.TempDir()
		a := &agent{opts: Options{Logger: slog.New(slog.DiscardHandler), Config: config.Config{
			StateDir: dir, RuntimeDir: t.TempDir(), BPFRoot: "/sys/fs/bpf/plexus",
			WireGuard: config.WireGuard{Device: "plexus0", Port: 51871}, Conntrack: config.Conntrack{Size: 1024},
		}}}
		left := filepath.Join(dir, "ca", "ca.key")
		if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(left, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := a.Init(t.Context(), api.InitRequest{
			ClusterName: "east", ClusterID: 1, NodeName: "web-1", Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		})
		if err == nil || !strings.Contains(err.Error(), "leave --force") {
			t.Errorf("init beside a CA: %v, want an error with the remedy", err)
		}
		if _, err := os.Stat(left); err != nil {
			t.Errorf("init that was refused removed the CA: %v", err)
		}
		if _, err := os.Stat("/sys/fs/bpf/plexus"); err == nil {
			t.Error("init that was refused left pins behind")
		}
		if err := a.Leave(t.Context(), api.LeaveRequest{Force: true}); err != nil {
			t.Errorf("leave --force: %v", err)
		}
		if _, err := os.Stat(left); err == nil {
			t.Error("leave --force left the CA")
		}
	})
}
