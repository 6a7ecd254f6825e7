package token

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample(t testing.TB) Token {
	t.Helper()
	tok, err := New([]string{"192.0.2.1:7443", "[2001:db8::1]:7443", "mesh.example.org:443"}, [32]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestRoundTrip(t *testing.T) {
	want := sample(t)
	got, err := Parse("\n " + want.Format() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Token{})); diff != "" {
		t.Error(diff)
	}
	if got.Secret() == sample(t).Secret() || got.ID() == sample(t).ID() {
		t.Error("two tokens share an id or a secret")
	}
}

func TestEveryChangedCharacterIsNoticed(t *testing.T) {
	s := sample(t).Format()
	for i := range s {
		for _, c := range []byte("Ax0_- \n.") {
			if s[i] == c {
				continue
			}
			if i == len(s)-1 && (c == ' ' || c == '\n') {
				continue // space at the end is trimmed: that is a truncated token, below
			}
			if _, err := Parse(s[:i] + string(c) + s[i+1:]); !errors.Is(err, ErrDamaged) {
				t.Fatalf("character %d changed to %q: %v", i, c, err)
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	s := sample(t).Format()
	half := len(s) / 2
	for name, in := range map[string]string{
		"empty":             "",
		"truncated by one":  s[:len(s)-1],
		"truncated to half": s[:half],
		"only its prefix":   prefix,
		"head cut off":      s[1:],
		"line break inside": s[:half] + "\n" + s[half:],
		"space inside":      s[:half] + " " + s[half:],
		"padded":            s + "=",
		"twice":             s + s,
		"a file":            strings.Repeat(s, 100),
		"other case":        strings.ToUpper(s),
		"another mark":      "abc1." + seal("abc1.", sample(t)),
		"no server":         prefix + seal(prefix, Token{}),
		"bad server":        prefix + seal(prefix, Token{Servers: []string{"192.0.2.1"}}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(in)
			if !errors.Is(err, ErrDamaged) || !strings.HasPrefix(err.Error(), "token is damaged: copy it again") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNewerVersion(t *testing.T) {
	if _, err := Parse("plx2." + seal("plx2.", sample(t))); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
}

// seal encodes t behind another prefix, with a checksum that fits.
func seal(head string, t Token) string {
	raw, _ := encoding.DecodeString(strings.TrimPrefix(t.Format(), prefix))
	body := raw[:len(raw)-checksumSize]
	return encoding.EncodeToString(append(body, checksum(head, body)...))
}

func TestSecretIsNeverPrinted(t *testing.T) {
	tok := sample(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		out := fmt.Sprintf(verb, tok)
		if strings.Contains(out, tok.Secret()) || strings.Contains(out, tok.Format()) || !strings.Contains(out, tok.ID()) {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

func TestMatches(t *testing.T) {
	tok, other := sample(t), sample(t)
	if !Matches(tok.Hash(), tok.ID(), tok.Secret()) {
		t.Error("the token's own secret does not match")
	}
	if Matches(tok.Hash(), tok.ID(), other.Secret()) || Matches(tok.Hash(), other.ID(), tok.Secret()) || Matches("", tok.ID(), "") {
		t.Error("a wrong id or secret matches")
	}
}

func TestNewRefusesBadServers(t *testing.T) {
	for _, servers := range [][]string{nil, {"192.0.2.1"}, {":7443"}, {"192.0.2.1:0"}, {"2001:db8::1:7443"}, {"h:99999"}, {strings.Repeat("h", 300) + ":1"}} {
		if _, err := New(servers, [32]byte{}); err == nil {
			t.Errorf("%q accepted", servers)
		}
	}
}

func TestValidateID(t *testing.T) {
	if err := ValidateID(sample(t).ID()); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"", "a/b", "../../x", "ABCDEF0123456789", "00"} {
		if ValidateID(id) == nil {
			t.Errorf("%q accepted", id)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f).Format())
	f.Add(prefix)
	f.Add("plx2." + seal("plx2.", sample(f)))
	f.Add(prefix + seal(prefix, Token{Servers: []string{"h:1"}}))
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		if got := tok.Format(); got != strings.TrimSpace(s) {
			t.Fatalf("%q parsed, but formats as %q", s, got)
		}
	})
}
