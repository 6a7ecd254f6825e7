package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// Init makes a mesh whose first server and first host this is, and remembers
// both in the state directory. The returned Server has to be run or closed. When
// Init fails, nothing of what it made is left.
func Init(ctx context.Context, o Options) (*Server, control.Enrolment, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, control.Enrolment{}, err
	}
	s, e, err := o.build(ctx)
	if err != nil {
		return nil, control.Enrolment{}, errors.Join(fmt.Errorf("make mesh %s: %w", o.Cluster.Name, err), Remove(o.StateDir))
	}
	return s, e, nil
}

// Remove forgets the server in stateDir and the mesh with it, and this host's
// enrolment. The server must not be running.
func Remove(stateDir string) error {
	errs := []error{client.Remove(stateDir)}
	for _, name := range []string{settingsFile, "server", "etcd", "ca"} {
		if err := os.RemoveAll(filepath.Join(stateDir, name)); err != nil {
			errs = append(errs, fmt.Errorf("remove server: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (o Options) build(ctx context.Context) (_ *Server, _ control.Enrolment, err error) {
	authority, err := ca.New(o.Cluster.Name)
	if err != nil {
		return nil, control.Enrolment{}, err
	}
	if err := authority.Save(filepath.Join(o.StateDir, "ca")); err != nil {
		return nil, control.Enrolment{}, err
	}
	c := settings{Node: o.Node, Cluster: o.Cluster.Name, ClusterID: o.Cluster.ID, Addresses: o.Addresses, Ports: o.Ports}
	s, err := assemble(ctx, parts{o.StateDir, c, authority, o.Logger})
	if err != nil {
		return nil, control.Enrolment{}, err
	}
	defer func() {
		if err != nil {
			_ = s.Close() // the first error is the one to tell
		}
	}()
	if err := o.settle(ctx, s.Store); err != nil {
		return nil, control.Enrolment{}, err
	}
	e, err := o.enrol(ctx, s)
	if err != nil {
		return nil, control.Enrolment{}, err
	}
	c.Addresses = append(c.Addresses, e.Mesh4, e.Mesh6)
	if err := filesIn(o.StateDir).ensure(authority, c.names()); err != nil {
		return nil, control.Enrolment{}, err
	}
	// The enrolment last: with it this host is a member, and a member that has no
	// control plane would come back from a crash in between.
	if err := c.save(o.StateDir); err != nil {
		return nil, control.Enrolment{}, err
	}
	return s, e, client.Save(o.StateDir, e)
}

// settle writes what holds for the whole mesh from now on.
func (o Options) settle(ctx context.Context, store *kvstore.Client) error {
	value, err := schema.EncodeMeshConfig(schema.MeshConfig{
		Cluster: o.Cluster, Pool4: o.Pool4, Pool6: control.NewPool6(), Version: schema.Version,
		Created: time.Now().UTC().Truncate(time.Second), Etcd: o.etcds(), Servers: o.servers(),
	})
	if err != nil {
		return err
	}
	ok, err := store.Commit(ctx, []kvstore.Cond{kvstore.Absent(schema.ConfigKey)}, []kvstore.Op{
		kvstore.OpPut(schema.ConfigKey, value, 0), kvstore.OpPut(schema.EnrolmentKey, []byte("1"), 0),
	})
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("etcd holds a mesh already")
	}
	return nil
}

// enrol makes this host the first of its mesh.
func (o Options) enrol(ctx context.Context, s *Server) (control.Enrolment, error) {
	key, err := ca.NewKey()
	if err != nil {
		return control.Enrolment{}, fmt.Errorf("make key of host %s: %w", o.Node, err)
	}
	keyPEM, err := ca.KeyPEM(key)
	if err != nil {
		return control.Enrolment{}, err
	}
	csr, err := ca.NewRequest(key)
	if err != nil {
		return control.Enrolment{}, err
	}
	got, err := s.Registry.EnrolServer(ctx, registry.ServerHost{Claim: o.claim(), CSR: csr, Labels: o.Labels, Namespace: o.Namespace})
	if err != nil {
		return control.Enrolment{}, err
	}
	labels, err := identity.ParseLabels(got.Labels)
	return control.Enrolment{
		Node: o.Node, Cluster: o.Cluster, Server: true, Mesh4: got.Mesh4, Mesh6: got.Mesh6, Pools: got.Pools,
		Identity: mesh.Identity(got.Identity), Labels: labels, Namespace: got.Namespace, Advertise: o.Advertise,
		Etcd: []string{s.Etcd.Endpoint()}, Servers: got.Servers, // its own etcd needs no network
		CertificatePEM: []byte(got.Certificate), KeyPEM: keyPEM, CAPEM: []byte(got.CA),
	}, err
}
