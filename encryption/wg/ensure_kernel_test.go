package wg_test

import (
	"context"
	"testing"

	"github.com/plexusmesh/plexus/encryption/wg"
	"github.com/plexusmesh/plexus/internal/netnstest"
)

func TestX(t *testing.T) {
	netnstest.Run(t, func() {
		o := deviceOptions("pxt0", t.TempDir())
		k, err := wg.EnsureDevice(context.Background(), o)
		t.Log(k, err)
		k, err = wg.EnsureDevice(context.Background(), o)
		t.Log(k, err)
		d, _ := wg.New(wg.Options{Name: "pxt0"})
		t.Log(d.Ensure(context.Background(), wg.Config{Port: 51871}))
		t.Log(d.ListPeers(context.Background()))
		t.Log(wg.RemoveDevice(context.Background(), o.Name, o.PIDFile))
	})
}
func runDaemon([]string) error { return nil }
