package kvtest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/embedded"
)

// Admin is the common name of the certificate that may do everything on a
// server of [StartAuth].
const Admin = "server:kvtest"

// Server is a real etcd server on loopback that keeps its ports and data
// through Stop and Start.
type Server struct {
	PKI  *PKI // nil without TLS
	opts embedded.Options
	etcd *embedded.Server // nil while stopped
}

// Start runs a server in plaintext and stops it with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, nil)
}

// StartTLS runs a server that wants certificates of its PKI, but no users.
func StartTLS(t testing.TB) *Server {
	t.Helper()
	return start(t, newPKI(t))
}

// StartAuth runs a server as a mesh has it: certificates name users, and
// [Admin] is the only one yet.
func StartAuth(t testing.TB) *Server {
	t.Helper()
	s := StartTLS(t)
	if err := s.Client(t).EnableAuth(t.Context(), Admin); err != nil {
		t.Fatalf("enable users: %v", err)
	}
	return s
}

func start(t testing.TB, pki *PKI) *Server {
	t.Helper()
	s := &Server{PKI: pki, opts: embedded.Options{Dir: t.TempDir(), Logger: Logger(t), UnsafeNoFsync: true}}
	if pki != nil {
		s.opts.TLS = pki.files(t, Admin)
		s.opts.PeerTLS, s.opts.PeerNames = s.opts.TLS, []string{Admin}
	}
	t.Cleanup(s.Stop)
	// Between finding a free port and using it another test may take it.
	for attempt := 0; ; attempt++ {
		s.opts.Listen, s.opts.Peer = freePort(t), freePort(t)
		err := s.open()
		if err == nil {
			return s
		}
		if attempt == 5 || !errors.Is(err, embedded.ErrPortInUse) {
			t.Fatalf("start etcd: %v", err)
		}
	}
}

func (s *Server) open() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	etcd, err := embedded.Open(ctx, s.opts)
	if err == nil {
		s.etcd = etcd
	}
	return err
}

// Stop takes the server down. A second call does nothing.
func (s *Server) Stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

// Start brings a stopped server back, with its data, at the same address.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.open(); err != nil {
		t.Fatalf("start etcd again: %v", err)
	}
}

// Restart stops and starts the server.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	s.Start(t)
}

// Disconnect ends the watches of a user.
func (s *Server) Disconnect(user string) { s.etcd.Disconnect(user) }

// Compact drops all history but the newest revision.
func (s *Server) Compact(t testing.TB) {
	t.Helper()
	c := s.Client(t)
	_, rev, err := c.List(t.Context(), "compact")
	if err != nil {
		t.Fatalf("read revision: %v", err)
	}
	if err := c.Compact(t.Context(), rev); err != nil {
		t.Fatalf("compact: %v", err)
	}
}

// Endpoint is the server's URL.
func (s *Server) Endpoint() string {
	scheme := "http://"
	if s.PKI != nil {
		scheme = "https://"
	}
	return scheme + s.opts.Listen.String()
}

// Client connects as [Admin], for as long as the test runs.
func (s *Server) Client(t testing.TB) *kvstore.Client {
	t.Helper()
	return s.ClientAs(t, Admin)
}

// ClientAs connects with a certificate of that common name, for as long as the
// test runs. Without TLS everybody is the same.
func (s *Server) ClientAs(t testing.TB, name string) *kvstore.Client {
	t.Helper()
	opts := kvstore.Options{Endpoints: []string{s.Endpoint()}, Logger: Logger(t), RequestTimeout: 10 * time.Second}
	if s.PKI != nil {
		opts.TLS = s.PKI.TLS(t, name)
	}
	c, err := kvstore.Open(opts)
	if err != nil {
		t.Fatalf("open client: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the server may have gone first
	return c
}

// Logger returns a logger that discards.
func Logger(testing.TB) *slog.Logger { return slog.New(slog.DiscardHandler) }

func freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}
