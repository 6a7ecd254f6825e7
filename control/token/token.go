package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Sizes in bytes. A secret of 128 random bits needs no slow hash.
const (
	idSize     = 8
	secretSize = 16
	maxServers = 16
	maxServer  = 255 // length of one host:port
)

// ErrDamaged says that a string is not what [Token.Format] returned: it was
// truncated, mistyped or broken by pasting.
var ErrDamaged = errors.New("token is damaged: copy it again")

// ErrVersion says that a token was made by a server that is newer than this host.
var ErrVersion = errors.New("token is of a newer version: upgrade plexus on this host")

// Token is what a host needs to join. It holds a secret: write it nowhere but
// where its owner asked for it.
type Token struct {
	Servers []string // host:port of the join API, IPv6 in brackets, preferred first
	CAHash  [32]byte // SHA-256 of the mesh CA's SubjectPublicKeyInfo
	id      [idSize]byte
	secret  [secretSize]byte
}

// New returns a token with a fresh id and secret for the servers of the CA
// whose public key hashes to caHash.
func New(servers []string, caHash [32]byte) (Token, error) {
	if err := validateServers(servers); err != nil {
		return Token{}, err
	}
	t := Token{Servers: servers, CAHash: caHash}
	_, _ = rand.Read(t.id[:]) // never an error: crypto/rand ends the process instead
	_, _ = rand.Read(t.secret[:])
	return t, nil
}

// ID names the token in lists and in the store. It is no secret.
func (t Token) ID() string { return hex.EncodeToString(t.id[:]) }

// Secret returns the hex form that the joining host sends to prove that it
// holds the token.
func (t Token) Secret() string { return hex.EncodeToString(t.secret[:]) }

// Hash returns what the server stores in place of the secret.
func (t Token) Hash() string { return Hash(t.ID(), t.Secret()) }

// Hash returns the stored form of a secret: SHA-256 over its purpose, the
// token's id and the secret, in hex.
func Hash(id, secret string) string {
	sum := sha256.Sum256([]byte("plexus join token\x00" + id + "\x00" + secret))
	return hex.EncodeToString(sum[:])
}

// Matches reports, in constant time, whether secret is the one behind stored.
func Matches(stored, id, secret string) bool {
	return subtle.ConstantTimeCompare([]byte(stored), []byte(Hash(id, secret))) == 1
}

// String describes the token without its secret.
func (t Token) String() string {
	return fmt.Sprintf("token %s for %s (secret redacted)", t.ID(), strings.Join(t.Servers, ", "))
}

// GoString keeps the secret out of %#v.
func (t Token) GoString() string { return t.String() }

// ValidateID reports why id cannot name a token.
func ValidateID(id string) error {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != idSize || id != strings.ToLower(id) {
		return fmt.Errorf("token id %q is malformed: want %d hexadecimal digits, as token list prints them", id, 2*idSize)
	}
	return nil
}

func validateServers(servers []string) error {
	if len(servers) == 0 || len(servers) > maxServers {
		return fmt.Errorf("make token: %d server addresses, want 1 to %d", len(servers), maxServers)
	}
	for _, s := range servers {
		if err := validateServer(s); err != nil {
			return fmt.Errorf("make token: %w", err)
		}
	}
	return nil
}

func validateServer(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("server address %q: %w", s, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || len(s) > maxServer || net.JoinHostPort(host, port) != s {
		return fmt.Errorf("server address %q: want host:port", s)
	}
	return nil
}
