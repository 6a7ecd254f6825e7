package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore"
)

// fake answers what it is told to, and records what it was asked.
type fake struct {
	err      error
	requests []control.JoinRequest
	source   netip.Addr
}

func (f *fake) Enrol(_ context.Context, r control.JoinRequest, source netip.Addr) (control.JoinResponse, error) {
	f.requests, f.source = append(f.requests, r), source
	return control.JoinResponse{Cluster: "vms"}, f.err
}
func (f *fake) Saw(context.Context, string, string, netip.Addr) error      { return f.err }
func (f *fake) RemoveNode(context.Context, string, registry.Removal) error { return f.err }

func newHandler(f *fake, log io.Writer) http.Handler {
	h := &handler{hosts: f, logger: slog.New(slog.NewTextHandler(log, nil)), failures: newLimiter(), lines: newLimiter()}
	return h.routes()
}

func ask(h http.Handler, method, path, body string) (int, control.Error) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "[::ffff:192.0.2.9]:4242"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var said control.Error
	_ = json.Unmarshal(w.Body.Bytes(), &said) // a success has neither field
	return w.Code, said
}

func TestJoinMapsErrors(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		code   control.Code
		says   string
	}{
		{nil, 200, "", ""},
		{control.Errorf(control.CodeTokenExpired, "it has expired"), 403, control.CodeTokenExpired, "it has expired"},
		{control.Errorf(control.CodeNameInUse, "it is in use"), 409, control.CodeNameInUse, "it is in use"},
		{control.Errorf(control.CodeInvalid, "bad"), 400, control.CodeInvalid, "bad"},
		{&kvstore.Error{Op: "get", Key: "plexus/v1/secret", Cause: kvstore.ErrUnavailable}, 503, control.CodeUnavailable, "cannot reach etcd"},
		{errors.New("inner detail"), 500, control.CodeInternal, "its log says why"},
	} {
		var log bytes.Buffer
		f := &fake{err: tt.err}
		status, said := ask(newHandler(f, &log), "POST", control.PathJoin, `{"secret":"hush"}`)
		if status != tt.status || said.Code != tt.code || !strings.Contains(said.Text, tt.says) {
			t.Errorf("%v: %d %+v", tt.err, status, said)
		}
		if f.source != netip.MustParseAddr("192.0.2.9") || f.requests[0].Secret != "hush" {
			t.Errorf("asked %+v from %v", f.requests, f.source)
		}
		if strings.Contains(log.String(), "hush") {
			t.Errorf("the secret is logged: %s", &log)
		}
		if (tt.err != nil) != (log.Len() > 0) {
			t.Errorf("%v: logged %q", tt.err, &log)
		}
	}
}

func TestBadRequestsReachNobody(t *testing.T) {
	for name, tt := range map[string]struct {
		method, path, body string
		status             int
	}{
		"unknown field":     {"POST", control.PathJoin, `{"labels":{"app":"admin"}}`, 400},
		"not JSON":          {"POST", control.PathJoin, `x`, 400},
		"empty":             {"POST", control.PathJoin, ``, 400},
		"too large":         {"POST", control.PathJoin, `{"node":"` + strings.Repeat("x", control.MaxBody) + `"}`, 400},
		"another method":    {"GET", control.PathJoin, ``, 404},
		"another path":      {"POST", "/v1/policies", ``, 404},
		"seen without cert": {"POST", control.PathSeen, `{}`, 403},
		"left without cert": {"POST", control.PathLeave, `{}`, 403},
	} {
		f := &fake{}
		h := newHandler(f, io.Discard)
		r := httptest.NewRequest(tt.method, "https://192.0.2.1"+tt.path, strings.NewReader(tt.body))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var said control.Error
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != tt.status || said.Text == "" {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if len(f.requests) != 0 {
			t.Errorf("%s: enrolled", name)
		}
	}
}

func TestFailingSourceHasToWait(t *testing.T) {
	f := &fake{err: control.Errorf(control.CodeTokenUnknown, "no")}
	h := newHandler(f, io.Discard)
	for range maxFailures {
		if status, _ := ask(h, "POST", control.PathJoin, `{}`); status != 403 {
			t.Fatalf("status %d before the limit", status)
		}
	}
	if status, said := ask(h, "POST", control.PathJoin, `{}`); status != 429 || said.Code != control.CodeTooMany {
		t.Errorf("at the limit: %d %+v", status, said)
	}
	if len(f.requests) != maxFailures {
		t.Errorf("asked %d times", len(f.requests))
	}
}

func TestOutagesAreNotHeldAgainstASource(t *testing.T) {
	h := newHandler(&fake{err: &kvstore.Error{Op: "get", Cause: kvstore.ErrUnavailable}}, io.Discard)
	for range 2 * maxFailures {
		if status, _ := ask(h, "POST", control.PathJoin, `{}`); status != 503 {
			t.Fatalf("status %d", status)
		}
	}
}

// Nobody fills the log with requests that fail, whatever they ask for.
func TestFailingSourceFallsSilent(t *testing.T) {
	for name, path := range map[string]string{"no certificate": control.PathSeen, "no such path": "/x", "no join": control.PathJoin} {
		var log bytes.Buffer
		h := newHandler(&fake{err: errors.New("planted")}, &log)
		for range 10 * maxFailures {
			ask(h, "POST", path, `{}`)
		}
		if n := strings.Count(log.String(), "\n"); n != maxFailures {
			t.Errorf("%s: %d lines, want %d", name, n, maxFailures)
		}
	}
}

func TestLimiter(t *testing.T) {
	l, now := newLimiter(), time.Now()
	one, same, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:0:1::1")
	for range maxFailures {
		l.failed(one, now)
	}
	if l.allow(one, now) || l.allow(same, now) || !l.allow(other, now) {
		t.Error("the limit is not per /64")
	}
	if !l.allow(one, now.Add(window)) {
		t.Error("the window does not end")
	}
	for i := range maxSources + 10 {
		l.failed(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
	}
	if len(l.sources) > maxSources {
		t.Errorf("remembers %d sources", len(l.sources))
	}
}

func TestPortInUse(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Listen(l.Addr().String())
	if !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("POST", control.PathJoin, []byte(`{"protocol":1}`))
	f.Add("POST", control.PathSeen, []byte(`{}`))
	f.Add("GET", "/v1/../x", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		r.Method, r.URL.Path = method, path
		w := httptest.NewRecorder()
		newHandler(&fake{}, io.Discard).ServeHTTP(w, r)
		if w.Code/100 == 5 {
			t.Errorf("%s %q: %d", method, path, w.Code)
		}
	})
}
