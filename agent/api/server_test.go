package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/observe"
)

// fake is a Backend that remembers what it was asked and answers what it is told.
type fake struct {
	mu    sync.Mutex
	asked []any
	err   error

	status  Status
	joined  Joined
	flows   []observe.Flow
	lost    *observe.LostError
	follows chan observe.Flow
	ended   chan struct{} // closed when Observe with Follow returns
}

var _ Backend = (*fake)(nil)

func (f *fake) note(what any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, what)
	return f.err
}

func (f *fake) Status(context.Context) (Status, error) { return f.status, f.note("status") }
func (f *fake) Init(_ context.Context, r InitRequest) (Joined, error) {
	return f.joined, f.note(r)
}
func (f *fake) Join(_ context.Context, r JoinRequest) (Joined, error) { return f.joined, f.note(r) }
func (f *fake) Leave(_ context.Context, r LeaveRequest) error         { return f.note(r) }
func (f *fake) Nodes(context.Context) ([]Node, error) {
	return []Node{{Name: "a", Port: 51871}}, f.note("nodes")
}
func (f *fake) RemoveNode(_ context.Context, name string) error { return f.note("remove " + name) }
func (f *fake) Identities(context.Context) ([]Identity, error) {
	return []Identity{{ID: 65792}}, f.note("identities")
}
func (f *fake) CreateToken(_ context.Context, r TokenRequest) (TokenCreated, error) {
	return TokenCreated{Token: "secret", ID: "1"}, f.note(r)
}
func (f *fake) Tokens(context.Context) ([]Token, error)          { return nil, f.note("tokens") }
func (f *fake) RevokeToken(_ context.Context, id string) error   { return f.note("revoke " + id) }
func (f *fake) Policies(context.Context) ([]Policy, error)       { return nil, f.note("policies") }
func (f *fake) IPCache(context.Context) ([]IPCacheEntry, error)  { return nil, f.note("ipcache") }
func (f *fake) PolicyMap(context.Context) ([]PolicyEntry, error) { return nil, f.note("policymap") }
func (f *fake) Flows(context.Context) ([]FlowEntry, error)       { return nil, f.note("flows") }
func (f *fake) Counters(context.Context) ([]CounterEntry, error) { return nil, f.note("counters") }
func (f *fake) Tables(context.Context) ([]TableEntry, error)     { return nil, f.note("tables") }
func (f *fake) Pinholes(context.Context) ([]Pinhole, error)      { return nil, f.note("pinholes") }
func (f *fake) ApplyPolicies(_ context.Context, r ApplyRequest) (ApplyResult, error) {
	return ApplyResult{Revision: 7}, f.note(r)
}
func (f *fake) ReviewPolicies(_ context.Context, r ReviewRequest) (Review, error) {
	return Review{Revision: 6}, f.note(r)
}
func (f *fake) ConfirmPolicies(_ context.Context, r ConfirmRequest) (Revision, error) {
	return Revision{State: StateInForce}, f.note(r)
}
func (f *fake) RollbackPolicies(_ context.Context, r RollbackRequest) (ApplyResult, error) {
	return ApplyResult{Revision: 8}, f.note(r)
}
func (f *fake) PolicyHistory(context.Context) ([]Revision, error) {
	return []Revision{{Revision: 7}}, f.note("history")
}
func (f *fake) Explain(_ context.Context, r ExplainRequest) (Explanation, error) {
	return Explanation{Verdict: VerdictDeny}, f.note(r)
}
func (f *fake) Disarm(_ context.Context, r DisarmRequest) (Disarmed, error) {
	return Disarmed{Reason: r.Reason}, f.note(r)
}
func (f *fake) Arm(context.Context) (Armed, error) {
	return Armed{Before: &Disarmed{Reason: "drill"}}, f.note("arm")
}

func (f *fake) Observe(ctx context.Context, q observe.Query) iter.Seq2[observe.Flow, error] {
	err := f.note(q)
	return func(yield func(observe.Flow, error) bool) {
		if err != nil {
			yield(observe.Flow{}, err)
			return
		}
		for _, flow := range f.flows {
			if !yield(flow, nil) {
				return
			}
		}
		if f.lost != nil && !yield(observe.Flow{}, f.lost) {
			return
		}
		if q.Follow {
			defer close(f.ended)
			f.follow(ctx, yield)
		}
	}
}

func (f *fake) follow(ctx context.Context, yield func(observe.Flow, error) bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case flow := <-f.follows:
			if !yield(flow, nil) {
				return
			}
		}
	}
}

// start runs a Server for b and returns its socket and how to stop it.
func start(t *testing.T, b Backend) (socket string, stop func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run", "plexusd.sock")
	return socket, startAt(t, b, socket)
}

func startAt(t *testing.T, b Backend, socket string) (stop func() error) {
	t.Helper()
	s, err := NewServer(Options{Socket: socket, Backend: b, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("server ended: %v", err)
	}
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestEveryCallReachesTheBackend(t *testing.T) {
	b := &fake{
		status: Status{State: "ready", Version: "1.2.3", Node: NodeStatus{MeshIPv4: netip.MustParseAddr("10.210.0.1")}},
		joined: Joined{Node: NodeStatus{Name: "a"}, Token: &TokenCreated{Token: "t"}},
	}
	socket, _ := start(t, b)
	c := NewClient(socket)
	defer c.Close()
	ctx := t.Context()
	initReq := InitRequest{ClusterName: "m", ClusterID: 3, Labels: map[string]string{"app": "web"}, Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	joinReq := JoinRequest{Token: "t", NodeName: "b"}
	tokenReq := TokenRequest{TTL: time.Hour, Uses: 2, Ephemeral: true}
	files, base := []PolicyFile{{Name: "p.yaml", Data: []byte("x: 1")}}, uint64(6)
	applyReq := ApplyRequest{Files: files, Delete: []string{"prod/web"}, AllowEmpty: true, ConfirmWithin: time.Minute, Base: &base, Message: "m"}
	reviewReq := ReviewRequest{Files: files, Delete: []string{"b"}, Terminal: &Terminal{netip.MustParseAddr("192.0.2.9"), 22}}
	explainReq := ExplainRequest{From: "web-1", To: "app=db", Port: "5432/TCP", Files: files}
	tests := []struct {
		name  string
		call  func() (any, error)
		asked any
		want  string // the answer, as Go prints it
	}{
		{"status", func() (any, error) { s, err := c.Status(ctx); return s.Version, err }, "status", "1.2.3"},
		{"init", func() (any, error) { j, err := c.Init(ctx, initReq); return j.Token.Token, err }, initReq, "t"},
		{"join", func() (any, error) { j, err := c.Join(ctx, joinReq); return j.Node.Name, err }, joinReq, "a"},
		{"leave", func() (any, error) { return nil, c.Leave(ctx, LeaveRequest{Force: true}) }, LeaveRequest{Force: true}, "<nil>"},
		{"nodes", func() (any, error) { n, err := c.Nodes(ctx); return n[0].Port, err }, "nodes", "51871"},
		{"remove node", func() (any, error) { return nil, c.RemoveNode(ctx, "b.c") }, "remove b.c", "<nil>"},
		{"identities", func() (any, error) { i, err := c.Identities(ctx); return i[0].ID, err }, "identities", "65792"},
		{"create token", func() (any, error) { x, err := c.CreateToken(ctx, tokenReq); return x.Token, err }, tokenReq, "secret"},
		{"tokens", func() (any, error) { return c.Tokens(ctx) }, "tokens", "[]"},
		{"revoke token", func() (any, error) { return nil, c.RevokeToken(ctx, "a b/c%") }, "revoke a b/c%", "<nil>"},
		{"apply", func() (any, error) { r, err := c.ApplyPolicies(ctx, applyReq); return r.Revision, err }, applyReq, "7"},
		{"policies", func() (any, error) { return c.Policies(ctx) }, "policies", "[]"},
		{"review", func() (any, error) { r, err := c.ReviewPolicies(ctx, reviewReq); return r.Revision, err }, reviewReq, "6"},
		{"confirm", func() (any, error) { r, err := c.ConfirmPolicies(ctx, ConfirmRequest{7}); return r.State, err }, ConfirmRequest{7}, "in force"},
		{"rollback", func() (any, error) { r, err := c.RollbackPolicies(ctx, RollbackRequest{5}); return r.Revision, err }, RollbackRequest{5}, "8"},
		{"history", func() (any, error) { h, err := c.PolicyHistory(ctx); return h[0].Revision, err }, "history", "7"},
		{"disarm", func() (any, error) { d, err := c.Disarm(ctx, DisarmRequest{"drill"}); return d.Reason, err }, DisarmRequest{"drill"}, "drill"},
		{"arm", func() (any, error) { a, err := c.Arm(ctx); return a.Before.Reason, err }, "arm", "drill"},
		{"explain", func() (any, error) { e, err := c.Explain(ctx, explainReq); return e.Verdict, err }, explainReq, "deny"},
		{"ipcache", func() (any, error) { return c.IPCache(ctx) }, "ipcache", "[]"},
		{"policy map", func() (any, error) { return c.PolicyMap(ctx) }, "policymap", "[]"},
		{"flows", func() (any, error) { return c.Flows(ctx) }, "flows", "[]"},
		{"tables", func() (any, error) { return c.Tables(ctx) }, "tables", "[]"},
		{"counters", func() (any, error) { return c.Counters(ctx) }, "counters", "[]"},
		{"pinholes", func() (any, error) { return c.Pinholes(ctx) }, "pinholes", "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.call()
			if err != nil {
				t.Fatal(err)
			}
			if s := fmt.Sprint(got); s != tt.want {
				t.Errorf("answer = %q, want %q", s, tt.want)
			}
			if diff := cmp.Diff(tt.asked, b.asked[len(b.asked)-1], cmp.Comparer(sameAddr)); diff != "" {
				t.Errorf("backend was asked (-want +got):\n%s", diff)
			}
		})
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

func TestErrorsKeepTheirCode(t *testing.T) {
	b := &fake{}
	socket, _ := start(t, b)
	c := NewClient(socket)
	defer c.Close()
	tests := []struct {
		err  error
		want Error
	}{
		{Errorf(CodeNotFound, "node %q does not exist", "x"), Error{CodeNotFound, `node "x" does not exist`}},
		{fmt.Errorf("apply: %w", Errorf(CodeInvalid, "p.yaml:3: no")), Error{CodeInvalid, "apply: p.yaml:3: no"}},
		{Errorf(CodeUnjoined, "this host is in no mesh"), Error{CodeUnjoined, "this host is in no mesh"}},
		{Errorf(CodeForbidden, "no"), Error{CodeForbidden, "no"}},
		{Errorf(CodeConflict, "no"), Error{CodeConflict, "no"}},
		{Errorf(CodeUnavailable, "etcd does not answer"), Error{CodeUnavailable, "etcd does not answer"}},
		{errors.New("boom"), Error{CodeInternal, "boom"}},
	}
	for _, tt := range tests {
		b.err = tt.err
		_, err := c.Status(t.Context())
		var got *Error
		if !errors.As(err, &got) || *got != tt.want {
			t.Errorf("status with %v: got %#v, want %#v", tt.err, err, tt.want)
		}
	}
}

func TestBodiesAreBounded(t *testing.T) {
	b := &fake{}
	socket, _ := start(t, b)
	c := NewClient(socket)
	defer c.Close()
	apply := func(size int) error {
		_, err := c.ApplyPolicies(t.Context(), ApplyRequest{Files: []PolicyFile{{Data: bytes.Repeat([]byte("a"), size)}}})
		return err
	}
	if err := apply(MaxPolicyBytes); err != nil {
		t.Errorf("apply at the limit: %v", err)
	}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"one byte over", apply(MaxPolicyBytes + 1), "policy documents of 2097153 bytes: the limit is 2097152 bytes"},
		{"a review", func() error {
			_, err := c.ReviewPolicies(t.Context(), ReviewRequest{Files: []PolicyFile{{Data: make([]byte, MaxPolicyBytes+1)}}})
			return err
		}(), "policy documents of 2097153 bytes: the limit is 2097152 bytes"},
		{"a question", func() error {
			_, err := c.Explain(t.Context(), ExplainRequest{Files: []PolicyFile{{Data: make([]byte, MaxPolicyBytes+1)}}})
			return err
		}(), "policy documents of 2097153 bytes: the limit is 2097152 bytes"},
		{"ten megabytes", apply(10 << 20), "the limit is 3145728 bytes"},
		{"a token", func() error {
			_, err := c.Join(t.Context(), JoinRequest{Token: strings.Repeat("a", 70000)})
			return err
		}(),
			"the limit is 65536 bytes"},
	}
	for _, tt := range tests {
		var e *Error
		if !errors.As(tt.err, &e) || e.Code != CodeTooLarge || !strings.Contains(e.Text, tt.want) {
			t.Errorf("%s: error = %v, want code %q and %q", tt.name, tt.err, CodeTooLarge, tt.want)
		}
	}
	if len(b.asked) != 1 {
		t.Errorf("the backend was asked %d times, want 1", len(b.asked))
	}
}

func TestTrialsAreBounded(t *testing.T) {
	b := &fake{}
	socket, _ := start(t, b)
	c := NewClient(socket)
	defer c.Close()
	for window, ok := range map[time.Duration]bool{
		-time.Second: false, 0: true, MinConfirmWithin - 1: false, MinConfirmWithin: true, MaxConfirmWithin: true, MaxConfirmWithin + 1: false,
	} {
		_, err := c.ApplyPolicies(t.Context(), ApplyRequest{ConfirmWithin: window})
		var e *Error
		if refused := errors.As(err, &e) && e.Code == CodeInvalid && strings.Contains(e.Text, "use 10s to 1h"); refused == ok {
			t.Errorf("apply on trial for %v: %v", window, err)
		}
	}
	if len(b.asked) != 3 {
		t.Errorf("the backend was asked %d times, want 3", len(b.asked))
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	b := &fake{}
	socket, _ := start(t, b)
	tests := []struct{ name, request, want string }{
		{"no JSON", "POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", `"code":"invalid"`},
		{"unknown field", "POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n{\"tokn\":\"\"}", `unknown field`},
		{"two values", "POST /v1/leave HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{}{}", `data after the first value`},
		{"unknown path", "GET /v2/status HTTP/1.1\r\nHost: x\r\n\r\n", `"code":"not-found"`},
		{"endless body", "POST /v1/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n11000\r\n" + strings.Repeat(" ", 0x11000) + "\r\n0\r\n\r\n", "limit of 65536 bytes"},
		{"selector", "POST /v1/observe HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{\"from\":\"1.2.3.\"}", `neither an address nor a prefix`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() { _, _ = conn.Write([]byte(tt.request)) }()
			buf := make([]byte, 4096)
			n, err := conn.Read(buf)
			if err != nil || !strings.Contains(string(buf[:n]), tt.want) {
				t.Errorf("answer = %q, %v; want %q", buf[:n], err, tt.want)
			}
		})
	}
	if len(b.asked) != 0 {
		t.Errorf("the backend was asked %v", b.asked)
	}
}

func TestObserveStreams(t *testing.T) {
	b := &fake{
		flows:   []observe.Flow{{Node: "a"}, {Node: "b"}},
		lost:    &observe.LostError{Count: 9},
		follows: make(chan observe.Flow),
		ended:   make(chan struct{}),
	}
	socket, _ := start(t, b)
	c := NewClient(socket)
	defer c.Close()
	var got []string
	for f, err := range c.Observe(t.Context(), observe.Query{Follow: true}) {
		var lost *observe.LostError
		switch {
		case errors.As(err, &lost):
			got = append(got, fmt.Sprint("lost ", lost.Count))
			go func() { b.follows <- observe.Flow{Node: "new"} }() // arrives only if each line is flushed
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, f.Node)
		}
		if f.Node == "new" {
			break
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "lost 9", "new"}, got); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
	select {
	case <-b.ended:
	case <-time.After(10 * time.Second):
		t.Error("the stream goes on although its client has gone")
	}
}

func TestObserveEndsWithItsErrorAndWithTheServer(t *testing.T) {
	b := &fake{err: Errorf(CodeUnjoined, "no mesh")}
	socket, stop := start(t, b)
	c := NewClient(socket)
	defer c.Close()
	var errs []error
	for _, err := range c.Observe(t.Context(), observe.Query{}) {
		errs = append(errs, err)
	}
	var e *Error
	if len(errs) != 1 || !errors.As(errs[0], &e) || e.Code != CodeUnjoined {
		t.Errorf("errors = %v, want one with code unjoined", errs)
	}

	b.err, b.flows, b.ended = nil, []observe.Flow{{Node: "a"}}, make(chan struct{})
	for _, err := range c.Observe(t.Context(), observe.Query{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := stop(); err != nil { // ends the loop by ending the stream
			t.Errorf("stop: %v", err)
		}
	}
	<-b.ended
}

func TestSocket(t *testing.T) {
	socket, stop := start(t, &fake{})
	info, err := os.Stat(socket)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket mode = %v, %v; want Srw-------", info.Mode(), err)
	}
	if dir, err := os.Stat(filepath.Dir(socket)); err != nil || dir.Mode().Perm() != 0o755 {
		t.Errorf("directory mode = %v, %v; want 0755", dir.Mode(), err)
	}

	second, err := NewServer(Options{Socket: socket, Backend: &fake{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, errAnother) || !strings.Contains(err.Error(), socket) {
		t.Errorf("second daemon on the socket: %v, want a refusal that names it", err)
	}
	if _, err := NewClient(socket).Status(t.Context()); err != nil {
		t.Errorf("the first daemon stopped answering: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after the stop: %v", err)
	}
}

func TestSocketInTheWay(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "plexusd.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), socket); !errors.Is(err, errAnother) {
		t.Errorf("listen where a stranger listens: %v, want a refusal", err)
	}
	l.SetUnlinkOnClose(false) // as after a crash
	_ = l.Close()
	stop := startAt(t, &fake{}, socket)
	if _, err := NewClient(socket).Status(t.Context()); err != nil {
		t.Errorf("status over a socket that replaced a stale one: %v", err)
	}
	_ = stop()

	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), socket); err == nil || !strings.Contains(err.Error(), "no socket is in the way") {
		t.Errorf("listen over a file: %v, want a refusal", err)
	}
	if data, _ := os.ReadFile(socket); string(data) != "precious" {
		t.Errorf("the file now holds %q", data)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("a", 120))
	if _, err := listen(t.Context(), long); err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("listen on a long path: %v", err)
	}
}

func TestClientSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	absent := filepath.Join(dir, "absent.sock")
	_, err := NewClient(absent).Status(t.Context())
	want := "plexusd does not answer at " + absent + ": start it (systemctl start plexusd) or choose another with --socket"
	if !errors.Is(err, ErrNotRunning) || err.Error() != want {
		t.Errorf("error = %v, want %q", err, want)
	}
	c := NewClient("/x")
	if err := c.explain(t.Context(), &net.OpError{Err: os.ErrPermission}); !strings.Contains(err.Error(), "as root") {
		t.Errorf("error = %v, want the advice to be root", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewClient(absent).Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	in := []Node{{Name: "a"}}
	out := withoutNull(in).([]Node)
	if out[0].Labels == nil || out[0].Addresses == nil {
		t.Errorf("lists are nil: %+v", out[0])
	}
	if in[0].Labels != nil {
		t.Error("the backend's own value was changed")
	}
	if m := withoutNull(Token{}).(Token).Labels; m == nil {
		t.Error("map is nil")
	}
}
