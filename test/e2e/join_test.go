package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/lab"
)

// TestTokens tries to join with every token that must not work, and then with
// one that does.
func TestTokens(t *testing.T) {
	hosts, _, _ := newHosts(t, 2)
	server, guest := hosts[0], hosts[1]
	foreign := tokenOfAnotherMesh(t, server)
	server.init(t)
	lab.Eventually(t, settled, "the server is ready", server.ready(t, 0))

	good := server.token(t)
	cases := []struct {
		name, token, cause string
		code               int
	}{
		{"of another mesh", foreign, "not of this token's mesh", exitError},
		{"expired", expiredToken(t, server), "expired", exitError},
		{"used up", usedUpToken(t, server, guest), "used up", exitError},
		{"revoked", revokedToken(t, server), "revoked", exitError},
		{"empty", "", "empty", exitUsage},
		{"no token at all", "plexus", "damaged", exitError},
		{"cut off", good[:len(good)-3], "damaged", exitError},
	}
	before := stored(t, server.Host)
	files := stateFiles(t, guest)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			guest.plexus(t, "join", "--token-file", guest.write(t, "token", tt.token)).refused(t, tt.code, tt.cause)
			leftNothing(t, server, guest, before, files)
		})
	}
	t.Run("one character changed", func(t *testing.T) {
		testDamaged(t, guest, good)
		leftNothing(t, server, guest, before, files)
	})
	t.Run("good", func(t *testing.T) {
		guest.join(t, good)
		lab.Eventually(t, settled, "the guest is ready", guest.ready(t, 1))
	})
}

// tokenOfAnotherMesh makes a mesh that is gone again.
func tokenOfAnotherMesh(t *testing.T, server *host) string {
	t.Helper()
	server.init(t)
	token := server.token(t)
	server.do(t, "leave", "--force")
	return token
}

func expiredToken(t *testing.T, server *host) string {
	t.Helper()
	created := ask[api.TokenCreated](t, server, "token", "create", "--ttl", "1s")
	lab.Eventually(t, settled, "the token expires", func() error {
		return tokenIs(t, server, created.ID, "expired")
	})
	return created.Token
}

func tokenIs(t *testing.T, server *host, id, want string) error {
	t.Helper()
	for _, tok := range ask[[]api.Token](t, server, "token", "list") {
		if tok.ID == id && tok.State == want {
			return nil
		}
	}
	return fmt.Errorf("token %s is not %s", id, want)
}

func usedUpToken(t *testing.T, server, guest *host) string {
	t.Helper()
	created := ask[api.TokenCreated](t, server, "token", "create")
	guest.join(t, created.Token)
	if err := tokenIs(t, server, created.ID, "used up"); err != nil {
		t.Error(err)
	}
	guest.do(t, "leave")
	lab.Eventually(t, settled, "the guest is gone", server.ready(t, 0))
	return created.Token
}

func revokedToken(t *testing.T, server *host) string {
	t.Helper()
	created := ask[api.TokenCreated](t, server, "token", "create")
	server.do(t, "token", "revoke", created.ID)
	return created.Token
}

// testDamaged changes single characters all over the token.
func testDamaged(t *testing.T, guest *host, good string) {
	for i := 0; i < len(good); i += 11 {
		damaged := []byte(good)
		damaged[i] ^= 1
		r := guest.plexus(t, "join", string(damaged))
		if r.code != exitError || !strings.Contains(r.stderr, "damaged") || strings.Contains(r.stderr, good[:20]) {
			t.Errorf("changed at %d: exit code %d, %q; want the word damaged and not the token", i, r.code, r.stderr)
		}
	}
}

// stateFiles lists what the daemon keeps.
func stateFiles(t *testing.T, h *host) []string {
	t.Helper()
	found, err := filepath.Glob(h.Path("/var/lib/plexus/*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, filepath.Base(f))
	}
	return names
}

// leftNothing checks that a refused join changed nothing on either side.
func leftNothing(t *testing.T, server, guest *host, before map[string]string, files []string) {
	t.Helper()
	if diff := cmp.Diff(before, stored(t, server.Host)); diff != "" {
		t.Errorf("the join changed the server's etcd:\n%s", diff)
	}
	if diff := cmp.Diff(files, stateFiles(t, guest)); diff != "" {
		t.Errorf("the join changed the guest's state directory:\n%s", diff)
	}
	if r := guest.plexus(t, "status"); r.code != exitDegraded || !strings.Contains(r.stdout, "unjoined") {
		t.Errorf("status of the guest after a refused join: %+v; want unjoined", r)
	}
	if _, err := os.Stat(guest.Path("/sys/class/net/plexus0")); err == nil {
		t.Error("a refused join made plexus0")
	}
}
