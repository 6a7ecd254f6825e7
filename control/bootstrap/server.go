package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/lead"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/control/server"
	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/embedded"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// Server is the control plane of a host, ready to run: etcd serves already, the
// other parts do once they are run. Whoever has it runs it or closes it.
type Server struct {
	Etcd     *embedded.Server
	Store    *kvstore.Client // as etcd's administrator
	Registry *registry.Service
	API      *server.Server
	Leader   *lead.Leader
}

// Run runs all parts until ctx ends or one of them fails, then stops them, etcd
// last, and closes what they used.
func (s *Server) Run(ctx context.Context) error {
	front, stopFront := context.WithCancel(ctx)
	defer stopFront()
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	etcd := launch(back, stopFront, s.Etcd.Run)
	api := launch(front, stopFront, s.API.Run)
	leader := launch(front, stopFront, s.Leader.Run)
	err := errors.Join(<-api, <-leader, s.Store.Close())
	stopBack()
	return errors.Join(err, <-etcd)
}

// launch runs f, and calls ended when it ends for whatever reason.
func launch(ctx context.Context, ended func(), f func(context.Context) error) <-chan error {
	done := make(chan error, 1)
	go func() {
		defer ended()
		done <- f(ctx)
	}()
	return done
}

// Close stops a Server that is not run.
func (s *Server) Close() error {
	var errs []error
	if s.API != nil {
		errs = append(errs, s.API.Close())
	}
	if s.Store != nil {
		errs = append(errs, s.Store.Close())
	}
	if s.Etcd != nil {
		s.Etcd.Close()
	}
	return errors.Join(errs...)
}

// settingsFile marks a host as server. Only the enrolment is written after it.
const settingsFile = "server.json"

// settings is what a server remembers.
type settings struct {
	Node      string       `json:"node"`
	Cluster   string       `json:"cluster"`
	ClusterID uint32       `json:"clusterID"`
	Addresses []netip.Addr `json:"addresses"` // node and mesh addresses
	Ports     Ports        `json:"ports"`
}

func (c settings) save(stateDir string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("save server settings: %w", err)
	}
	return atomicfile.Write(filepath.Join(stateDir, settingsFile), append(data, '\n'), 0o644)
}

func (c settings) names() ca.ServerNames {
	return ca.ServerNames{Cluster: c.Cluster, Node: c.Node, Addresses: c.Addresses}
}

// Made reports whether the host with that state directory is a server.
func Made(stateDir string) bool {
	_, err := os.Stat(filepath.Join(stateDir, settingsFile))
	return err == nil
}

// Start brings the server back that Init made in stateDir. The error is
// [os.ErrNotExist] when this host is none.
func Start(ctx context.Context, stateDir string, logger *slog.Logger) (*Server, error) {
	data, err := os.ReadFile(filepath.Join(stateDir, settingsFile))
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	var c settings
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("start server: read %s: %w", filepath.Join(stateDir, settingsFile), err)
	}
	authority, err := ca.Load(filepath.Join(stateDir, "ca"))
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	s, err := assemble(ctx, parts{stateDir, c, authority, logger})
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	return s, nil
}

// parts is what a server is put together from.
type parts struct {
	stateDir  string
	settings  settings
	authority *ca.Authority
	logger    *slog.Logger
}

// assemble starts etcd and prepares the rest. It closes what it opened when it
// fails.
func assemble(ctx context.Context, p parts) (_ *Server, err error) {
	listener, err := server.Listen(p.settings.Ports.api())
	if err != nil {
		return nil, err
	}
	s := &Server{}
	defer func() {
		if err != nil {
			_ = listener.Close() // the API may have closed it
			_ = s.Close()        // the first error is the one to tell
		}
	}()
	f := filesIn(p.stateDir)
	if err := f.ensure(p.authority, p.settings.names()); err != nil {
		return nil, err
	}
	if err := s.openStore(ctx, p, f); err != nil {
		return nil, err
	}
	return s, s.openParts(p, f, listener)
}

func (s *Server) openStore(ctx context.Context, p parts, f files) (err error) {
	s.Etcd, err = embedded.Open(ctx, embedded.Options{
		Dir: filepath.Join(p.stateDir, "etcd"), TLS: f.etcd(), Logger: p.logger,
		Listen: p.settings.Ports.etcd(), Peer: p.settings.Ports.etcdPeer(),
		PeerTLS: f.etcd(), PeerNames: []string{ca.ServerName(p.settings.Node)},
	})
	if err != nil {
		return err
	}
	cfg, err := f.clientTLS()
	if err != nil {
		return err
	}
	s.Store, err = kvstore.Open(kvstore.Options{Endpoints: []string{s.Etcd.Endpoint()}, TLS: cfg, Logger: p.logger})
	if err != nil {
		return err
	}
	return s.Store.EnableAuth(ctx, schema.ServerUser(p.settings.Node))
}

func (s *Server) openParts(p parts, f files, l net.Listener) (err error) {
	s.Registry, err = registry.New(registry.Options{Store: s.Store, CA: p.authority, Logger: p.logger, Disconnect: s.Etcd.Disconnect})
	if err != nil {
		return err
	}
	s.API, err = server.New(l, server.Options{Hosts: s.Registry, CertFile: f.cert, KeyFile: f.key, CAFile: f.ca, Logger: p.logger})
	if err != nil {
		return err
	}
	s.Leader, err = lead.New(lead.Options{
		Store: s.Store, Hosts: s.Registry, Policies: s.Registry, Node: p.settings.Node, Logger: p.logger,
		Cluster: mesh.Cluster{Name: p.settings.Cluster, ID: p.settings.ClusterID},
	})
	return err
}
