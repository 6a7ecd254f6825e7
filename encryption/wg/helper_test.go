package wg_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/encryption/wg"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// Words with which this test binary is run again, as another program.
const (
	asHelper = "wireguard" // the helper, as plexusd wireguard would be
	asDaemon = "daemon"    // something that starts a helper and waits to be killed
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asHelper:
			exit(runHelper(os.Args[2:]))
		case asDaemon:
			exit(runDaemon())
		}
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runHelper(args []string) error {
	var o wg.UserspaceOptions
	flags := flag.NewFlagSet(asHelper, flag.ContinueOnError)
	flags.StringVar(&o.Device, "device", "", "")
	flags.IntVar(&o.MTU, "mtu", 0, "")
	flags.StringVar(&o.PIDFile, "pid-file", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return wg.RunUserspace(context.Background(), o)
}

// deviceOptions are those of a daemon with its state in dir.
func deviceOptions(name, dir string) wg.DeviceOptions {
	return wg.DeviceOptions{
		Name:    name,
		MTU:     1420,
		Command: []string{"/proc/self/exe", asHelper},
		PIDFile: dir + "/" + name + ".pid",
		Timeout: 5 * time.Second,
		Logger:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// counter counts the writes of a real client.
type counter struct {
	*wgctrl.Client
	writes int
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	c, err := wgctrl.New()
	if err != nil {
		t.Fatal(err)
	}
	return &counter{Client: c}
}

func (c *counter) ConfigureDevice(name string, cfg wgtypes.Config) error {
	c.writes++
	return c.Client.ConfigureDevice(name, cfg)
}
