package encryption_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/encryption"
)

// TestPrivateKeyNeverPrints tries every way in which Go programs print values.
func TestPrivateKeyNeverPrints(t *testing.T) {
	k := encryption.NewPrivateKey()
	holder := struct {
		K encryption.PrivateKey
		P *encryption.PrivateKey
	}{k, &k}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", k, &k, holder)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("keys", "key", k, "pointer", &k, "holder", holder)
	}
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	raw := k.Bytes()
	for name, secret := range map[string]string{
		"base64": k.Encode(), "hex": hex.EncodeToString(raw[:]), "raw": string(raw[:]),
		"decimal": strings.Trim(fmt.Sprint(raw[:4]), "[]"), "Go": strings.Trim(fmt.Sprintf("%#v", raw[:4]), "[]byte{}"),
	} {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(secret)) {
			t.Errorf("the key was printed in its %s form:\n%s", name, out.String())
		}
	}
	if !strings.Contains(out.String(), "[private key]") {
		t.Errorf("no placeholder was printed:\n%s", out.String())
	}
}

// TestPublicKey takes Alice's key pair from RFC 7748, section 6.1.
func TestPublicKey(t *testing.T) {
	k, err := encryption.ParsePrivateKey("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := k.Public().String(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; got != want {
		t.Errorf("public key %s, want %s", got, want)
	}
	if !(encryption.PrivateKey{}).Public().IsZero() {
		t.Error("the zero key has a public key")
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	for name, s := range map[string]string{
		"empty": "", "not base64": "secret secret secret", "short": "c2VjcmV0", "zero": strings.Repeat("A", 43) + "=",
		"long": strings.Repeat("c2Vj", 20),
	} {
		k, err := encryption.ParsePrivateKey(s)
		if err == nil || !k.IsZero() || (s != "" && strings.Contains(err.Error(), s)) {
			t.Errorf("%s: error %v; want one that does not repeat the input", name, err)
		}
	}
}

func FuzzParsePrivateKey(f *testing.F) {
	for _, s := range []string{"", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", "AAAA", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := encryption.ParsePrivateKey(s)
		if err != nil {
			return
		}
		again, err := encryption.ParsePrivateKey(k.Encode())
		if err != nil || !again.Equal(k) || k.Public().IsZero() {
			t.Errorf("%q does not come back: %v", s, err)
		}
	})
}
