package encryption

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"log/slog"

	"github.com/plexusmesh/plexus/mesh"
)

// redacted stands for a private key wherever one is printed.
const redacted = "[private key]"

// PrivateKey is a WireGuard private key (a Curve25519 scalar). However it is
// printed, logged or marshalled, it shows nothing of itself; only the methods
// Bytes and Encode reveal it. The zero PrivateKey is none.
type PrivateKey struct{ scalar [32]byte }

// NewPrivateKey draws a key from the system's random source.
func NewPrivateKey() PrivateKey {
	var k PrivateKey
	rand.Read(k.scalar[:]) // never fails: crypto/rand ends the process instead
	k.scalar[0] &= 248     // clamped as RFC 7748, section 5 asks
	k.scalar[31] = k.scalar[31]&127 | 64
	return k
}

// ParsePrivateKey decodes the base64 form that wg(8) writes. Its errors never
// repeat what was given.
func ParsePrivateKey(s string) (PrivateKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("decode private key: not base64")
	}
	if len(raw) != 32 {
		return PrivateKey{}, fmt.Errorf("decode private key: %d bytes, want 32", len(raw))
	}
	k := PrivateKey{scalar: [32]byte(raw)}
	if k.IsZero() {
		return PrivateKey{}, fmt.Errorf("decode private key: all zero")
	}
	return k, nil
}

// Bytes reveals the scalar.
func (k PrivateKey) Bytes() [32]byte { return k.scalar }

// Encode reveals the key in the base64 form that wg(8) reads.
func (k PrivateKey) Encode() string { return base64.StdEncoding.EncodeToString(k.scalar[:]) }

// IsZero reports whether k is no key.
func (k PrivateKey) IsZero() bool { return k.Equal(PrivateKey{}) }

// Equal compares in constant time.
func (k PrivateKey) Equal(o PrivateKey) bool {
	return subtle.ConstantTimeCompare(k.scalar[:], o.scalar[:]) == 1
}

// Public returns the public key that belongs to k, or the zero Key of none.
func (k PrivateKey) Public() mesh.Key {
	if k.IsZero() {
		return mesh.Key{}
	}
	priv, err := ecdh.X25519().NewPrivateKey(k.scalar[:])
	if err != nil { // only for a wrong length
		return mesh.Key{}
	}
	return mesh.Key(priv.PublicKey().Bytes())
}

// Format keeps every verb of package fmt, %x and %#v too, from the scalar.
func (k PrivateKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String returns a placeholder.
func (k PrivateKey) String() string { return redacted }

// LogValue returns a placeholder.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns a placeholder, in JSON and YAML too.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns a placeholder.
func (k PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
