package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/embedded"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
)

func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func options(t *testing.T) embedded.Options {
	return embedded.Options{
		Dir: filepath.Join(t.TempDir(), "etcd"), Listen: free(t), Peer: free(t),
		Logger: kvtest.Logger(t), UnsafeNoFsync: true,
	}
}

func open(t *testing.T, opts embedded.Options) (*embedded.Server, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return embedded.Open(ctx, opts)
}

func mustOpen(t *testing.T, opts embedded.Options) *embedded.Server {
	t.Helper()
	s, err := open(t, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, s *embedded.Server) *kvstore.Client {
	t.Helper()
	c, err := kvstore.Open(kvstore.Options{Endpoints: []string{s.Endpoint()}, Logger: kvtest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestKeepsDataThroughRestart also checks that Run ends cleanly and frees all.
func TestKeepsDataThroughRestart(t *testing.T) {
	opts := options(t)
	s := mustOpen(t, opts)
	if _, err := client(t, s).Put(t.Context(), "a", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil when asked to stop", err)
	}
	kv, ok, err := client(t, mustOpen(t, opts)).Get(t.Context(), "a")
	if err != nil || !ok || string(kv.Value) != "1" {
		t.Errorf("get after restart = %q, %v, %v", kv.Value, ok, err)
	}
	info, err := os.Stat(opts.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory = %v, %v; want mode 0700", info.Mode(), err)
	}
}

func TestPortInUse(t *testing.T) {
	for _, which := range []string{"clients", "members"} {
		t.Run(which, func(t *testing.T) {
			taken, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			addr := netip.MustParseAddrPort(taken.Addr().String())
			opts := options(t)
			if which == "clients" {
				opts.Listen = addr
			} else {
				opts.Peer = addr
			}
			_, err = open(t, opts)
			who := fmt.Sprintf("TCP port %d is held by embedded.test, process %d", addr.Port(), os.Getpid())
			if !errors.Is(err, embedded.ErrPortInUse) || !strings.Contains(err.Error(), who) {
				t.Errorf("error = %v, want %q", err, who)
			}
		})
	}
}

func TestDirInUse(t *testing.T) {
	opts := options(t)
	mustOpen(t, opts)
	opts.Listen, opts.Peer = free(t), free(t)
	if _, err := open(t, opts); !errors.Is(err, embedded.ErrDirInUse) {
		t.Errorf("second server = %v, want ErrDirInUse", err)
	}
	if err := os.Remove(filepath.Join(opts.Dir, "plexus.lock")); err != nil { // as another etcd has none
		t.Fatal(err)
	}
	if _, err := open(t, opts); !errors.Is(err, embedded.ErrDirInUse) {
		t.Errorf("second server without our lock = %v, want ErrDirInUse", err)
	}
}

// TestDamagedData breaks each kind of file that etcd keeps.
func TestDamagedData(t *testing.T) {
	for _, pattern := range []string{"member/snap/db", "member/wal/*.wal"} {
		t.Run(pattern, func(t *testing.T) {
			opts := options(t)
			mustOpen(t, opts).Close()
			files, err := filepath.Glob(filepath.Join(opts.Dir, pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s: %v", pattern, err)
			}
			for _, f := range files {
				if err := os.WriteFile(f, bytes.Repeat([]byte{0x5a}, 8192), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err = open(t, opts)
			if !errors.Is(err, embedded.ErrDamaged) || !strings.Contains(err.Error(), opts.Dir) {
				t.Errorf("error = %v, want ErrDamaged that names %s", err, opts.Dir)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	open4, loop := netip.MustParseAddrPort("0.0.0.0:2379"), netip.MustParseAddrPort("127.0.0.1:2379")
	log := slog.New(slog.DiscardHandler)
	for name, opts := range map[string]embedded.Options{
		"no directory":               {Logger: log, Listen: loop},
		"no logger":                  {Dir: t.TempDir(), Listen: loop},
		"plaintext for all":          {Dir: t.TempDir(), Logger: log, Listen: open4},
		"local members in plaintext": {Dir: t.TempDir(), Logger: log, Listen: loop, TLS: &embedded.Files{}},
		"local members without name": {Dir: t.TempDir(), Logger: log, Listen: loop, TLS: &embedded.Files{}, PeerTLS: &embedded.Files{}},
		"members without TLS":        {Dir: t.TempDir(), Logger: log, Listen: loop, Peer: open4},
		"members without name":       {Dir: t.TempDir(), Logger: log, Listen: loop, Peer: open4, PeerTLS: &embedded.Files{}},
	} {
		if _, err := open(t, opts); err == nil || !strings.HasPrefix(err.Error(), "etcd: ") {
			t.Errorf("%s: error = %v, want to be refused", name, err)
		}
	}
}

// TestQuietLog checks that a healthy start has nothing to say above debug.
func TestQuietLog(t *testing.T) {
	var out bytes.Buffer
	opts := options(t)
	opts.Logger = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))
	mustOpen(t, opts).Close()
	if out.Len() > 0 {
		t.Errorf("log of a healthy start:\n%s", &out)
	}
}
