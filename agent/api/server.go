package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// grace is how long a call may go on once the server is asked to stop.
const grace = 5 * time.Second

// Options configures a Server.
type Options struct {
	Socket  string       // path; default DefaultSocket
	Backend Backend      // required
	Logger  *slog.Logger // required
}

// Server answers on the daemon's socket.
type Server struct {
	socket  string
	backend Backend
	log     *slog.Logger
	ready   chan struct{}
	stop    chan struct{} // closed when Run is asked to stop: ends what streams
}

// NewServer checks o. It starts nothing.
func NewServer(o Options) (*Server, error) {
	if o.Backend == nil || o.Logger == nil {
		return nil, errors.New("make API server: backend and logger are required")
	}
	if o.Socket == "" {
		o.Socket = DefaultSocket
	}
	return &Server{
		socket: o.Socket, backend: o.Backend, log: o.Logger,
		ready: make(chan struct{}), stop: make(chan struct{}),
	}, nil
}

// Ready is closed once clients can connect.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run answers until ctx ends, once in the life of a Server. Calls under way
// then get five seconds; streams end at once.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(ctx, s.socket)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	close(s.ready)
	select {
	case err := <-served:
		return fmt.Errorf("answer on %s: %w", s.socket, err)
	case <-ctx.Done():
	}
	close(s.stop)
	return shutdown(srv)
}

func shutdown(srv *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		return srv.Close() // cuts the calls that took too long
	}
	return nil
}
