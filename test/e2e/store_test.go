package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/internal/lab"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// stored returns a hash of every value in the mesh's etcd by key, and its
// users, read on the server with the server's own rights.
func stored(t *testing.T, server *lab.Host) map[string]string {
	t.Helper()
	p := launch(t, server, "keys", server.Name, server.Addr4.String())
	var got map[string]string
	if err := json.NewDecoder(p.out).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got
}

// printKeys is the role behind stored.
func printKeys(node, addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), settled)
	defer cancel()
	cfg, err := serverTLS(node)
	if err != nil {
		return err
	}
	c, err := kvstore.Open(kvstore.Options{
		Endpoints: []string{"https://" + addr + ":2379"}, TLS: cfg, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("ready")
	return printStore(ctx, c)
}

func printStore(ctx context.Context, c *kvstore.Client) error {
	got := map[string]string{}
	for _, prefix := range []string{"plexus/", "cilium/"} {
		kvs, _, err := c.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, kv := range kvs {
			if kv.Key != schema.HeartbeatKey {
				got[kv.Key] = fmt.Sprintf("%x", sha256.Sum256(kv.Value))
			}
		}
	}
	users, err := c.Users(ctx)
	if err != nil {
		return err
	}
	got["users"] = strings.Join(users, " ")
	return json.NewEncoder(os.Stdout).Encode(got)
}

// serverTLS makes a certificate that etcd takes for the server's, with the CA
// that the server keeps.
func serverTLS(node string) (*tls.Config, error) {
	authority, err := ca.Load("/var/lib/plexus/ca")
	if err != nil {
		return nil, err
	}
	key, err := ca.NewKey()
	if err != nil {
		return nil, err
	}
	cert, err := authority.ServerClient(&key.PublicKey, node)
	if err != nil {
		return nil, err
	}
	roots, err := ca.Pool(authority.CertPEM())
	if err != nil {
		return nil, err
	}
	keyPEM, err := ca.KeyPEM(key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert.PEM, keyPEM)
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}}, err
}
