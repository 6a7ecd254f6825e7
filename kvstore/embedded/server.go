package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/plexusmesh/plexus/kvstore/internal/zaplog"
)

// startTimeout bounds the wait for a first leader when the context has no
// deadline: with all data local it takes about a second.
const startTimeout = 60 * time.Second

// Errors that callers branch on.
var (
	ErrPortInUse = errors.New("port is in use")
	ErrDirInUse  = errors.New("data directory is in use")
	ErrDamaged   = errors.New("data is damaged")
)

// Server is a running etcd server.
type Server struct {
	opts    Options
	etcd    *embed.Etcd
	streams *streams
	lock    *os.File
	closing sync.Once
}

// Open starts etcd and returns once it serves. Its errors say in words what
// stands in the way; see [ErrPortInUse], [ErrDirInUse] and [ErrDamaged].
func Open(ctx context.Context, opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd data directory: %w", err)
	}
	lock, err := lockDir(opts.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: opts, lock: lock, streams: newStreams()}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	cfg := s.opts.etcd()
	cfg.GRPCAdditionalServerOptions = s.streams.serverOptions()
	e, err := startEtcd(cfg)
	if err != nil {
		return s.explain(err)
	}
	s.etcd = e
	if err := s.awaitReady(ctx); err != nil {
		e.Close()
		return err
	}
	return nil
}

// startEtcd turns etcd's panics over damaged data into errors.
func startEtcd(cfg *embed.Config) (e *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, err = nil, fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return embed.StartEtcd(cfg)
}

func (s *Server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err := <-s.etcd.Err():
		return s.explain(err)
	case <-s.etcd.Server.StopNotify():
		return fmt.Errorf("start etcd in %s: it stopped by itself; its reason is in the log", s.opts.Dir)
	case <-ctx.Done():
		return fmt.Errorf("start etcd in %s: no leader was elected: %w", s.opts.Dir, ctx.Err())
	}
}

// Run serves until ctx ends, then stops cleanly and returns nil. It returns an
// error when etcd stops by itself.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.etcd.Err():
		return s.explain(err)
	case <-s.etcd.Server.StopNotify():
		return fmt.Errorf("run etcd in %s: it stopped by itself; its reason is in the log", s.opts.Dir)
	}
}

// Close stops the server and frees its ports and directory. A second call does
// nothing.
func (s *Server) Close() {
	s.closing.Do(func() {
		s.streams.closeAll()
		s.etcd.Close()
		_ = s.lock.Close() // frees the directory; nothing was written to it
	})
}

// Endpoint is the URL at which a client on this host reaches the server.
func (s *Server) Endpoint() string {
	addr := s.opts.Listen
	if addr.Addr().IsUnspecified() {
		addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port())
	}
	u := urlOf(addr, s.opts.TLS != nil)
	return u.String()
}

// Disconnect ends the open requests and watches of an etcd user. etcd checks a
// watch when it starts and never again, so a user that has been removed would
// go on seeing changes without this.
func (s *Server) Disconnect(user string) { s.streams.closeUser(user) }

// explain finds words for what etcd reports.
func (s *Server) explain(err error) error {
	var fatal zaplog.Fatal
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return s.explainPort(err)
	case errors.Is(err, ErrDamaged), errors.As(err, &fatal), damaged(err):
		return damage(s.opts.Dir, err)
	}
	return fmt.Errorf("start etcd in %s: %w", s.opts.Dir, err)
}

// explainPort names the port and, where /proc tells, the process that has it.
func (s *Server) explainPort(err error) error {
	port := s.opts.Listen.Port()
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		if a, perr := netip.ParseAddrPort(op.Addr.String()); perr == nil {
			port = a.Port()
		}
	}
	who := "another program, perhaps an etcd or plexusd that still runs"
	if name, pid, ok := holder(port); ok {
		who = name + ", process " + strconv.Itoa(pid)
	}
	return fmt.Errorf("start etcd: %w: TCP port %d is held by %s; stop it, or choose another port in the configuration", ErrPortInUse, port, who)
}
