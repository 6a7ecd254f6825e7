package mesh

import (
	"encoding/base64"
	"fmt"
)

// Key is a WireGuard public key (a Curve25519 point). The zero Key means that
// none is known. Private keys never have this type.
type Key [32]byte

// ParseKey decodes the base64 form that wg(8) prints.
func ParseKey(s string) (Key, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return Key{}, fmt.Errorf("decode WireGuard key %q: %w", s, err)
	}
	if len(raw) != len(Key{}) {
		return Key{}, fmt.Errorf("decode WireGuard key %q: %d bytes, want %d", s, len(raw), len(Key{}))
	}
	return Key(raw), nil
}

// IsZero reports whether no key is known.
func (k Key) IsZero() bool { return k == Key{} }

// String returns the base64 form, or "" for the zero Key.
func (k Key) String() string {
	if k.IsZero() {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k[:])
}
