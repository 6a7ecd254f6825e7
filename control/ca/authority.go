package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/plexusmesh/plexus/internal/atomicfile"
)

// Lifetimes of certificates, and how far back they begin so that a clock which
// is a little slow still takes them.
const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	Backdate          = 5 * time.Minute
)

// Names of the files in the CA's directory.
const (
	certFile = "ca.crt"
	keyFile  = "ca.key"
)

// Authority is the mesh CA with its private key.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes a CA for the named cluster. It is stored only by [Authority.Save].
func New(cluster string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of mesh CA: %w", err)
	}
	now := time.Now()
	cert, err := sign(&x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Plexus"}, CommonName: "Plexus mesh CA " + cluster},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}, nil, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make mesh CA: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// Load reads the CA from dir. The error is [os.ErrNotExist] when there is none.
func Load(dir string) (*Authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return nil, fmt.Errorf("read mesh CA: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("read key of mesh CA: %w", err)
	}
	cert, err := ParseCertificate(certPEM)
	if err != nil {
		return nil, fmt.Errorf("read mesh CA %s: %w", dir, err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read key of mesh CA %s: %w", dir, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("read mesh CA %s: the key does not belong to the certificate", dir)
	}
	return &Authority{cert: cert, key: key}, nil
}

// Save writes the CA into dir, which it makes if need be, readable for its owner alone.
func (a *Authority) Save(dir string) error {
	key, err := KeyPEM(a.key)
	if err != nil {
		return fmt.Errorf("save mesh CA: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save mesh CA: %w", err)
	}
	return errors.Join(
		atomicfile.Write(filepath.Join(dir, keyFile), key, 0o600),
		atomicfile.Write(filepath.Join(dir, certFile), a.CertPEM(), 0o644))
}

// CertPEM returns the CA's certificate.
func (a *Authority) CertPEM() []byte { return certPEM(a.cert) }

// Hash returns what a join token pins: see [Hash].
func (a *Authority) Hash() [32]byte { return Hash(a.cert) }

// Hash returns the SHA-256 of a certificate's SubjectPublicKeyInfo.
func Hash(cert *x509.Certificate) [32]byte { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// sign makes a certificate from template; a nil parent means that it signs itself.
func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial draws the 128 random bits that number a certificate.
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never an error: crypto/rand ends the process instead
	b[0] &= 0x7f           // positive in 16 bytes (RFC 5280, section 4.1.2.2)
	return new(big.Int).SetBytes(b[:])
}
