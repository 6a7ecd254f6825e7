package token

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// A token reads plx<version>.<base64url>, where the bytes are the body and the
// first checksumSize bytes of SHA-256 over the prefix and the body. The body is
// the CA hash, the id, the secret, and each server with its length before it.
const (
	mark         = "plx"
	version      = "1"
	prefix       = mark + version + "."
	checksumSize = 4
	fixedSize    = 32 + idSize + secretSize
	maxLength    = 8192 // longer than any token, so that a pasted file is refused at once
)

// encoding refuses padding, line breaks and stray trailing bits, so that a token
// has one written form only.
var encoding = base64.RawURLEncoding.Strict()

// Format returns the pasteable form. It holds the secret.
func (t Token) Format() string {
	var body bytes.Buffer
	body.Write(t.CAHash[:])
	body.Write(t.id[:])
	body.Write(t.secret[:])
	for _, s := range t.Servers {
		body.WriteByte(byte(len(s)))
		body.WriteString(s)
	}
	sum := checksum(prefix, body.Bytes())
	return prefix + encoding.EncodeToString(append(body.Bytes(), sum...))
}

// Parse is the reverse of Format. Space around the token is ignored. The error
// is [ErrDamaged] or [ErrVersion], and never repeats the token.
func Parse(s string) (Token, error) {
	s = strings.TrimSpace(s)
	if len(s) > maxLength {
		return Token{}, fmt.Errorf("%w (it is far too long)", ErrDamaged)
	}
	if strings.ContainsAny(s, " \t\r\n") {
		return Token{}, fmt.Errorf("%w (it holds a space or a line break)", ErrDamaged)
	}
	head, text, found := strings.Cut(s, ".")
	raw, err := encoding.DecodeString(text)
	if !found || err != nil || len(raw) < checksumSize {
		return Token{}, ErrDamaged
	}
	body, sum := raw[:len(raw)-checksumSize], raw[len(raw)-checksumSize:]
	switch {
	case !bytes.Equal(sum, checksum(head+".", body)):
		return Token{}, ErrDamaged
	case head+"." != prefix && strings.HasPrefix(head, mark):
		return Token{}, ErrVersion
	case head+"." != prefix:
		return Token{}, ErrDamaged
	}
	return parseBody(body)
}

func parseBody(body []byte) (Token, error) {
	if len(body) < fixedSize {
		return Token{}, ErrDamaged
	}
	var t Token
	rest := body[copy(t.CAHash[:], body):]
	rest = rest[copy(t.id[:], rest):]
	rest = rest[copy(t.secret[:], rest):]
	for len(rest) > 0 {
		n := int(rest[0])
		if len(rest) < 1+n {
			return Token{}, ErrDamaged
		}
		t.Servers = append(t.Servers, string(rest[1:1+n]))
		rest = rest[1+n:]
	}
	if err := validateServers(t.Servers); err != nil {
		return Token{}, ErrDamaged
	}
	return t, nil
}

func checksum(head string, body []byte) []byte {
	h := sha256.New()
	h.Write([]byte(head))
	h.Write(body)
	return h.Sum(nil)[:checksumSize]
}
