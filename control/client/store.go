package client

import (
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/internal/atomicfile"
	"github.com/plexusmesh/plexus/mesh"
)

// Files of an enrolment in the state directory. The first one is written last
// and removed first: a host has joined exactly while it exists.
const (
	enrolmentFile = "enrolment.json"
	certFile      = "host.crt"
	keyFile       = "host.key"
	caFile        = "ca.crt"
)

// Save remembers e in dir, which it makes if need be.
func Save(dir string, e control.Enrolment) error {
	if err := check(e); err != nil {
		return fmt.Errorf("save enrolment: %w", err)
	}
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("save enrolment: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save enrolment: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{keyFile, e.KeyPEM, 0o600}, {certFile, e.CertificatePEM, 0o644}, {caFile, e.CAPEM, 0o644},
		{enrolmentFile, append(text, '\n'), 0o644},
	} {
		if err := atomicfile.Write(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return errors.Join(fmt.Errorf("save enrolment: %w", err), Remove(dir))
		}
	}
	return nil
}

// Load reads what Save wrote. The error is [os.ErrNotExist] for a host that has
// not joined.
func Load(dir string) (control.Enrolment, error) {
	text, err := os.ReadFile(filepath.Join(dir, enrolmentFile))
	if err != nil {
		return control.Enrolment{}, fmt.Errorf("load enrolment: %w", err)
	}
	var e control.Enrolment
	if err := json.Unmarshal(text, &e); err != nil {
		return control.Enrolment{}, fmt.Errorf("load enrolment %s: %w", filepath.Join(dir, enrolmentFile), err)
	}
	for name, to := range map[string]*[]byte{keyFile: &e.KeyPEM, certFile: &e.CertificatePEM, caFile: &e.CAPEM} {
		if *to, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return control.Enrolment{}, fmt.Errorf("load enrolment: %v: the state directory is damaged: run plexusd cleanup, move %s away, and join again", err, dir) //nolint:errorlint // a missing file must not read as "has not joined"
		}
	}
	if err := check(e); err != nil {
		return control.Enrolment{}, fmt.Errorf("load enrolment from %s: %w", dir, err)
	}
	return e, nil
}

// Remove forgets an enrolment. Removing one that is not there is no error.
func Remove(dir string) error {
	var errs []error
	for _, name := range []string{enrolmentFile, keyFile, certFile, caFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove enrolment: %w", err))
		}
	}
	return errors.Join(errs...)
}

// check makes sure that the parts of an enrolment belong together.
func check(e control.Enrolment) error {
	cert, err := ca.ParseCertificate(e.CertificatePEM)
	if err != nil {
		return err
	}
	authority, err := ca.ParseCertificate(e.CAPEM)
	if err != nil {
		return err
	}
	key, err := ca.ParseKey(e.KeyPEM)
	if err != nil {
		return err
	}
	holder, err := ca.HolderOf(cert)
	if err != nil {
		return err
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || !key.PublicKey.Equal(pub):
		return errors.New("the certificate is not of this host's key")
	case cert.CheckSignatureFrom(authority) != nil:
		return errors.New("the certificate is not of this mesh's CA")
	case holder != (ca.Holder{Node: e.Node}):
		return fmt.Errorf("the certificate is for %q, not for host %s", cert.Subject.CommonName, e.Node)
	case !e.Mesh4.Is4() || !e.Mesh6.Is6() || len(e.Pools) == 0:
		return errors.New("the mesh addresses are missing")
	case len(e.Etcd) == 0 || len(e.Servers) == 0:
		return errors.New("the servers' addresses are missing")
	}
	return errors.Join(mesh.ValidateClusterName(e.Cluster.Name), mesh.ValidateClusterID(e.Cluster.ID, true))
}
