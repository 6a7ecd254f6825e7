package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/registry"
)

// DefaultPort is where the join API listens.
const DefaultPort = 7443

// Time limits of one request, and of all of them when the server stops.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	handleTimeout  = 25 * time.Second
	writeTimeout   = 40 * time.Second
	idleTimeout    = 60 * time.Second
	stopTimeout    = 5 * time.Second
	maxHeaderBytes = 16 << 10
)

// ErrPortInUse says that something else listens where the API should.
var ErrPortInUse = errors.New("port is in use")

// hosts is the part of registry.Service that this package uses.
type hosts interface {
	Enrol(ctx context.Context, r control.JoinRequest, source netip.Addr) (control.JoinResponse, error)
	Saw(ctx context.Context, node, serial string, address netip.Addr) error
	RemoveNode(ctx context.Context, node string, r registry.Removal) error
}

var _ hosts = (*registry.Service)(nil)

// Options configures a [Server].
type Options struct {
	Hosts    hosts        // required
	CertFile string       // of the server, PEM, the CA's after it; read at every handshake
	KeyFile  string       // of CertFile
	CAFile   string       // of the mesh
	Logger   *slog.Logger // required
}

// Listen takes the address of the API, host:port, before anything else is set
// up. An empty host is every address of both families.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen for the join API: %w: TCP %s is held by another program, perhaps a plexusd that still runs; stop it, or choose another port in the configuration", ErrPortInUse, address)
	case err != nil:
		return nil, fmt.Errorf("listen for the join API on %s: %w", address, err)
	}
	return l, nil
}

// Server serves the join API on a listener.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// New returns a Server for a listener of [Listen], which it owns from then on.
func New(l net.Listener, opts Options) (*Server, error) {
	if opts.Hosts == nil || opts.Logger == nil {
		return nil, errors.New("make join API: hosts and logger are required")
	}
	authority, err := os.ReadFile(opts.CAFile)
	if err != nil {
		return nil, fmt.Errorf("make join API: %w", err)
	}
	pool, err := ca.Pool(authority)
	if err != nil {
		return nil, fmt.Errorf("make join API: read %s: %w", opts.CAFile, err)
	}
	h := &handler{hosts: opts.Hosts, logger: opts.Logger, failures: newLimiter(), lines: newLimiter()}
	return &Server{listener: l, http: &http.Server{
		Handler:           http.TimeoutHandler(h.routes(), handleTimeout+time.Second, string(encode(errTimeout))),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug), // failed handshakes: anybody can cause them
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			ClientAuth: tls.VerifyClientCertIfGiven,
			ClientCAs:  pool,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				cert, err := tls.LoadX509KeyPair(opts.CertFile, opts.KeyFile)
				return &cert, err
			},
		},
	}}, nil
}

// Address is where the server listens.
func (s *Server) Address() net.Addr { return s.listener.Addr() }

// Close frees the listener of a Server that is not run.
func (s *Server) Close() error { return s.listener.Close() }

// Run serves until ctx ends, lets requests finish for a while, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.ServeTLS(s.listener, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve join API on %s: %w", s.Address(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := s.http.Shutdown(grace); err != nil {
		_ = s.http.Close() // what does not end in time is cut off
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve join API on %s: %w", s.Address(), err)
	}
	return nil
}
