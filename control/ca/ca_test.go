package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func authority(t testing.TB) *Authority { return must[*Authority](t)(New("test")) }

func parse(t testing.TB, c Certificate) *x509.Certificate {
	return must[*x509.Certificate](t)(ParseCertificate(c.PEM))
}

func request(t testing.TB) ([]byte, *ecdsa.PrivateKey) {
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	return must[[]byte](t)(NewRequest(key)), key
}

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	a := authority(t)
	if err := a.Save(dir); err != nil {
		t.Fatal(err)
	}
	got := must[*Authority](t)(Load(dir))
	if got.Hash() != a.Hash() || !got.key.Equal(a.key) {
		t.Error("another CA was loaded than saved")
	}
	info, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
}

func TestLoadRefusesKeyOfAnother(t *testing.T) {
	dir := t.TempDir()
	other := must[[]byte](t)(KeyPEM(authority(t).key))
	if err := authority(t).Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keyFile), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a key that does not fit was loaded")
	}
}

func TestHostCertificateTakesOnlyTheKey(t *testing.T) {
	a := authority(t)
	key := must[*ecdsa.PrivateKey](t)(NewKey())
	der := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "server:victim"},
		DNSNames: []string{"victim"},
	}, key))
	c := must[Certificate](t)(a.Host(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), "web-1"))
	leaf := parse(t, c)
	sum := Hash(leaf)
	switch {
	case leaf.Subject.CommonName != HostName("web-1", hex.EncodeToString(sum[:])) || len(leaf.DNSNames) != 0 || leaf.IsCA:
		t.Errorf("names come from the request: %v %v", leaf.Subject, leaf.DNSNames)
	case !key.PublicKey.Equal(leaf.PublicKey):
		t.Error("certificate is of another key")
	case len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth:
		t.Errorf("usage %v", leaf.ExtKeyUsage)
	case SerialOf(leaf) != c.Serial || leaf.SerialNumber.BitLen() < 64:
		t.Errorf("serial %s", c.Serial)
	}
}

func TestHostRefusesRequests(t *testing.T) {
	a := authority(t)
	good, _ := request(t)
	block, _ := pem.Decode(good)
	forged := append([]byte(nil), block.Bytes...)
	forged[len(forged)-1] ^= 1
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	edDER := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, edKey))
	p384 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p384DER := must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, p384))
	for name, csr := range map[string][]byte{
		"nothing":            nil,
		"not PEM":            []byte("hello"),
		"a certificate":      a.CertPEM(),
		"forged signature":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}),
		"another kind":       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: edDER}),
		"a curve we use not": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: p384DER}),
	} {
		if _, err := a.Host(csr, "n"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerifyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, other := authority(t), authority(t)
		_, key := request(t)
		leaf := parse(t, must[Certificate](t)(a.Server(&key.PublicKey, ServerNames{
			Cluster: "vms", Node: "s1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		})))
		csr, _ := request(t)
		host := parse(t, must[Certificate](t)(a.Host(csr, "s1")))
		now := time.Now()
		for _, name := range []string{"192.0.2.1", "2001:db8::1", "127.0.0.1", "::1", "localhost", "s1", "vms.mesh.cilium.io"} {
			if err := VerifyServer(leaf, a.cert, name, now); err != nil {
				t.Error(err)
			}
		}
		for what, err := range map[string]error{
			"another name":     VerifyServer(leaf, a.cert, "192.0.2.2", now),
			"another CA":       VerifyServer(leaf, other.cert, "192.0.2.1", now),
			"an hour early":    VerifyServer(leaf, a.cert, "192.0.2.1", now.Add(-time.Hour)),
			"two years late":   VerifyServer(leaf, a.cert, "192.0.2.1", now.AddDate(2, 0, 0)),
			"a host as server": VerifyServer(host, a.cert, "", now),
		} {
			if err == nil {
				t.Errorf("%s: accepted", what)
			}
		}
		if err := VerifyServer(leaf, a.cert, "192.0.2.1", now.Add(-4*time.Minute)); err != nil {
			t.Errorf("a slightly slow clock: %v", err)
		}
	})
}

func TestFindPinned(t *testing.T) {
	a, other := authority(t), authority(t)
	_, key := request(t)
	leaf := parse(t, must[Certificate](t)(a.Server(&key.PublicKey, ServerNames{})))
	if got, err := FindPinned([]*x509.Certificate{leaf, a.cert}, a.Hash()); err != nil || got != a.cert {
		t.Errorf("pinned CA: %v", err)
	}
	if _, err := FindPinned([]*x509.Certificate{leaf, a.cert}, other.Hash()); !errors.Is(err, ErrForeign) {
		t.Errorf("foreign CA: %v", err)
	}
	if _, err := FindPinned([]*x509.Certificate{leaf}, Hash(leaf)); !errors.Is(err, ErrForeign) {
		t.Error("a leaf passes as CA")
	}
}

func TestHolderOf(t *testing.T) {
	for cn, want := range map[string]Holder{
		"host:web-1:0123456789abcdef": {Node: "web-1"}, "server:s1": {Node: "s1", Server: true},
		"": {}, "host:": {}, "root": {}, "web-1": {}, "host:web-1": {}, "host:web-1:0123": {}, "host:a/b:0123456789abcdef": {}, "host::0123456789abcdef": {},
	} {
		got, err := HolderOf(&x509.Certificate{Subject: pkix.Name{CommonName: cn}})
		if want == (Holder{}) {
			if err == nil {
				t.Errorf("%q: accepted as %v", cn, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %v, %v", cn, got, err)
		}
	}
}

func TestLeafNeverOutlivesCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := authority(t)
		time.Sleep(authorityLifetime - 24*time.Hour)
		_, key := request(t)
		if c := must[Certificate](t)(a.ServerClient(&key.PublicKey, "s")); c.Until.After(a.cert.NotAfter) {
			t.Errorf("certificate is good until %v, the CA until %v", c.Until, a.cert.NotAfter)
		}
	})
}

func FuzzHost(f *testing.F) {
	a := authority(f)
	csr, _ := request(f)
	f.Add(csr)
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, csr []byte) {
		c, err := a.Host(csr, "fuzz")
		if err == nil && !strings.HasPrefix(parse(t, c).Subject.CommonName, "host:fuzz:") {
			t.Error("the request chose its name")
		}
	})
}
