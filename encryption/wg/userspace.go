package wg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	wireguard "golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// UserspaceOptions are what the helper's command line says.
type UserspaceOptions struct {
	Device  string // --device
	MTU     int    // --mtu, bytes
	PIDFile string // --pid-file
	// Log takes what the helper has to say; default os.Stderr. A regular file
	// is emptied whenever it would exceed 1 MiB, so that years of unreachable
	// peers do not fill the disk.
	Log *os.File
}

// RunUserspace is the helper: it makes a TUN device, runs wireguard-go on it and
// answers at the socket where wgctrl looks, until ctx ends, SIGTERM or SIGINT
// arrives, or the device is deleted, and then returns nil. The device goes with
// it. It knows no key until the daemon gives it one.
func RunUserspace(ctx context.Context, o UserspaceOptions) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	signal.Ignore(unix.SIGHUP)
	if o.Log == nil {
		o.Log = os.Stderr
	}
	link, err := tun.CreateTUN(o.Device, o.MTU)
	if err != nil {
		return fmt.Errorf("create TUN device %s: %w", o.Device, err)
	}
	defer link.Close()
	uapi, err := listen(o.Device)
	if err != nil {
		return fmt.Errorf("listen at %s: %w", socketPath(o.Device), err)
	}
	defer uapi.Close()
	if err := writePID(o.PIDFile); err != nil {
		return fmt.Errorf("write PID file of WireGuard helper: %w", err)
	}
	defer os.Remove(o.PIDFile)
	dev := wireguard.NewDevice(link, conn.NewDefaultBind(), logger(o))
	defer dev.Close()
	return serve(ctx, dev, uapi)
}

// serve answers questions to dev until it should end.
func serve(ctx context.Context, dev *wireguard.Device, uapi net.Listener) error {
	accepting := make(chan error, 1)
	go func() {
		for {
			c, err := uapi.Accept()
			if err != nil {
				accepting <- err
				return
			}
			go dev.IpcHandle(c)
		}
	}()
	adjust := time.NewTicker(10 * time.Second)
	defer adjust.Stop()
	for {
		debug.SetMemoryLimit(memoryLimit(runtime.NumGoroutine()))
		select {
		case <-ctx.Done():
			return nil
		case <-dev.Wait():
			return nil
		case err := <-accepting:
			return fmt.Errorf("accept at WireGuard socket: %w", err)
		case <-adjust.C:
		}
	}
}

// memoryLimit returns from which size in bytes the garbage collector works
// harder. Packet buffers come from pools that only it empties: without a limit
// one busy TCP flow takes 190 MB, with 96 MiB it takes 75 MB and is as fast. A
// peer needs some 25 KiB and runs two goroutines; they raise the limit, so that
// a large mesh is not collected without end.
func memoryLimit(goroutines int) int64 { return 96<<20 + int64(goroutines)*32<<10 }

func listen(name string) (net.Listener, error) {
	f, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the listener has a copy
	return ipc.UAPIListen(name, f)
}

// writePID puts our PID into path, whole or not at all.
func writePID(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pid-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// logger passes on wireguard-go's errors, which hold no keys.
func logger(o UserspaceOptions) *wireguard.Logger {
	log := slog.New(slog.NewTextHandler(&cappedFile{file: o.Log}, nil))
	return &wireguard.Logger{
		Verbosef: wireguard.DiscardLogf,
		Errorf: func(format string, args ...any) {
			log.Error("wireguard-go", "device", o.Device, "error", fmt.Sprintf(format, args...))
		},
	}
}

// maxLog is the size in bytes at which a log file starts anew.
const maxLog = 1 << 20

// cappedFile is a file, open for appending, that never exceeds maxLog by what it
// is written through here. slog calls Write by one goroutine at a time.
type cappedFile struct {
	file    *os.File
	written int
}

func (c *cappedFile) Write(p []byte) (int, error) {
	if c.written+len(p) > maxLog {
		_ = c.file.Truncate(0) // fails on what has no size, as a terminal
		c.written = 0
	}
	c.written += len(p)
	return c.file.Write(p)
}
