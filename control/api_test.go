package control

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func request() JoinRequest {
	return JoinRequest{
		Protocol: Protocol, TokenID: "0011223344556677", Secret: "s", Node: "web-1", Addresses: addrs("192.0.2.1"),
		Key: key(1).String(), Port: 51871, Version: "1", CSR: "x",
	}
}

func TestValidateJoinRequest(t *testing.T) {
	if err := request().Validate(); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		change func(*JoinRequest)
		code   Code
	}{
		"another version":    {func(r *JoinRequest) { r.Protocol = 2 }, CodeVersion},
		"a name with slash":  {func(r *JoinRequest) { r.Node = "a/b" }, CodeInvalid},
		"no name":            {func(r *JoinRequest) { r.Node = "" }, CodeInvalid},
		"no key":             {func(r *JoinRequest) { r.Key = "" }, CodeInvalid},
		"a zero key":         {func(r *JoinRequest) { r.Key = strings.Repeat("A", 43) + "=" }, CodeInvalid},
		"a short key":        {func(r *JoinRequest) { r.Key = "AAAA" }, CodeInvalid},
		"no port":            {func(r *JoinRequest) { r.Port = 0 }, CodeInvalid},
		"too many addresses": {func(r *JoinRequest) { r.Addresses = append(addrs("::1"), make([]netip.Addr, MaxAddresses)...) }, CodeInvalid},
		"an empty address":   {func(r *JoinRequest) { r.Addresses = make([]netip.Addr, 1) }, CodeInvalid},
		"a zone":             {func(r *JoinRequest) { r.Addresses = addrs("fe80::1%" + strings.Repeat("x", 60000)) }, CodeInvalid},
		"terminal commands":  {func(r *JoinRequest) { r.Version = "1\x1b]0;x\a" }, CodeInvalid},
		"a long version":     {func(r *JoinRequest) { r.Version = strings.Repeat("1", 65) }, CodeInvalid},
	} {
		r := request()
		tt.change(&r)
		if err := r.Validate(); !errors.Is(err, &Error{Code: tt.code}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecode(t *testing.T) {
	for body, ok := range map[string]bool{
		`{"address":"192.0.2.1"}`:   true,
		`{"address":"192.0.2.1"} `:  true,
		`{"addr":"192.0.2.1"}`:      false,
		`{"address":"192.0.2.1"}{}`: false,
		`{"address":"192.0.2.1"`:    false,
		`{"address":"192.0.2.999"}`: false,
		``:                          false,
		`{"address":"` + strings.Repeat(" ", MaxBody) + `"}`: false,
	} {
		var v SeenResponse
		if err := Decode(strings.NewReader(body), &v); (err == nil) != ok {
			t.Errorf("%.40s: %v", body, err)
		}
	}
}

func TestEnrolmentHidesItsKey(t *testing.T) {
	e := Enrolment{Node: "a", KeyPEM: []byte("PRIVATE")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, e); strings.Contains(out, "PRIVATE") || strings.Contains(out, "80 82") {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

func TestJoinRequestHidesItsSecret(t *testing.T) {
	r := request()
	r.Secret = "hush"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, r); strings.Contains(out, "hush") || !strings.Contains(out, r.TokenID) {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}

func FuzzDecodeJoin(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"tokenID":"0011223344556677","node":"a","addresses":["192.0.2.1"],"key":"BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","port":51871}`))
	f.Add([]byte(`{"addresses":["fe80::1%eth0"],"port":-1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r JoinRequest
		if err := Decode(strings.NewReader(string(body)), &r); err != nil {
			return
		}
		if r.Validate() != nil {
			return
		}
		c, err := r.Claim()
		if err != nil || c.Node == "" || c.Key.IsZero() || c.Port == 0 || strings.Contains(c.Node, "/") {
			t.Errorf("valid, but claims %+v, %v", c, err)
		}
	})
}
