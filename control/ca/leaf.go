package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/mesh"
)

// Certificate is a signed certificate as it is handed out.
type Certificate struct {
	PEM    []byte // the certificate, then the CA's
	Serial string // lower-case hexadecimal, as in plexus/v1/revoked/<serial>
	Until  time.Time
}

// ServerNames are what a server's certificate is good for, besides localhost.
type ServerNames struct {
	Cluster   string
	Node      string
	Addresses []netip.Addr // node and mesh addresses
}

// Host signs the certificate of a host: for csr's key, and for use as a client.
func (a *Authority) Host(csr []byte, node string) (Certificate, error) {
	pub, err := requestKey(csr)
	if err != nil {
		return Certificate{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return Certificate{}, fmt.Errorf("encode key of host %s: %w", node, err)
	}
	sum := sha256.Sum256(der)
	return a.leaf(pub, HostName(node, hex.EncodeToString(sum[:])), x509.ExtKeyUsageClientAuth)
}

// ServerClient signs the certificate that a server shows to etcd as its client.
func (a *Authority) ServerClient(pub *ecdsa.PublicKey, node string) (Certificate, error) {
	return a.leaf(pub, ServerName(node), x509.ExtKeyUsageClientAuth)
}

// Server signs the certificate of a server's listeners. It has no common name,
// so that nobody is an etcd user by it: etcd shows it to itself.
func (a *Authority) Server(pub *ecdsa.PublicKey, names ServerNames) (Certificate, error) {
	t := a.template(x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	t.DNSNames = []string{"localhost", names.Node, names.Cluster + ".mesh.cilium.io"}
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, addr := range names.Addresses {
		t.IPAddresses = append(t.IPAddresses, addr.Unmap().AsSlice())
	}
	return a.issue(t, pub)
}

func (a *Authority) leaf(pub crypto.PublicKey, name string, usage ...x509.ExtKeyUsage) (Certificate, error) {
	t := a.template(usage...)
	t.Subject.CommonName = name
	return a.issue(t, pub)
}

func (a *Authority) template(usage ...x509.ExtKeyUsage) *x509.Certificate {
	now := time.Now()
	until := now.Add(leafLifetime)
	if until.After(a.cert.NotAfter) {
		until = a.cert.NotAfter
	}
	return &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"Plexus"}},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usage,
		BasicConstraintsValid: true,
	}
}

func (a *Authority) issue(t *x509.Certificate, pub crypto.PublicKey) (Certificate, error) {
	cert, err := sign(t, a.cert, pub, a.key)
	if err != nil {
		return Certificate{}, fmt.Errorf("sign certificate %q: %w", t.Subject.CommonName, err)
	}
	return Certificate{
		PEM:    append(certPEM(cert), a.CertPEM()...),
		Serial: SerialOf(cert),
		Until:  cert.NotAfter,
	}, nil
}

// SerialOf returns the written form of a certificate's serial number.
func SerialOf(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// requestKey checks that the requester holds the key of csr, and returns it.
// Names, extensions and attributes of the request are ignored.
func requestKey(csr []byte) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("read certificate request: not PEM of a certificate request")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	pub, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("check certificate request: want an ECDSA key on P-256")
	}
	return pub, nil
}

// HostName and ServerName return the common names by which etcd and the API
// know a host and a server. That of a host holds a part of its key's hash, so
// that a later host of the same name is another user to etcd, which asks for
// nothing but the name: the certificate of the earlier one stays worthless.
// keyHash is the SHA-256 of the SubjectPublicKeyInfo in hex.
func HostName(node, keyHash string) string {
	return hostMark + node + ":" + keyHash[:min(len(keyHash), hostKeyDigits)]
}
func ServerName(node string) string { return serverMark + node }

const (
	hostMark      = "host:"
	serverMark    = "server:"
	hostKeyDigits = 16
)

// Holder says whose a verified certificate is.
type Holder struct {
	Node   string
	Server bool
}

// HolderOf reads the holder from a certificate that the caller has verified.
func HolderOf(cert *x509.Certificate) (Holder, error) {
	cn := cert.Subject.CommonName
	if node, ok := strings.CutPrefix(cn, serverMark); ok {
		return Holder{Node: node, Server: true}, mesh.ValidateNodeName(node)
	}
	rest, ok := strings.CutPrefix(cn, hostMark)
	node, digits, keyed := strings.Cut(rest, ":")
	if !ok || !keyed || len(digits) != hostKeyDigits {
		return Holder{}, fmt.Errorf("read certificate: %q names neither a host nor a server", cn)
	}
	return Holder{Node: node}, mesh.ValidateNodeName(node)
}
