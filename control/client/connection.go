package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/plexusmesh/plexus/control"
)

// connection speaks the join API with one server.
type connection struct {
	server string
	http   *http.Client
	dialer *net.Dialer
}

func newConnection(server string, cfg *tls.Config) *connection {
	c := &connection{server: server, dialer: &net.Dialer{Timeout: dialTimeout}}
	c.http = &http.Client{
		Timeout: requestTimeout,
		// No proxy from the environment: the server must be reached itself, and see us.
		Transport: &http.Transport{DialContext: c.dial, TLSClientConfig: cfg, TLSHandshakeTimeout: dialTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server answers with a redirection")
		},
	}
	return c
}

// from makes the connection come from address a.
func (c *connection) from(a netip.Addr) {
	c.dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
}

func (c *connection) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	return c.dialer.DialContext(ctx, network, c.server)
}

func (c *connection) close() { c.http.CloseIdleConnections() }

func (c *connection) get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, nil, out)
}

func (c *connection) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request to server %s: %w", c.server, err)
	}
	return c.do(ctx, http.MethodPost, path, body, out)
}

func (c *connection) do(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.server+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("reach server %s: %w", c.server, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close() // nothing more is read
	if resp.StatusCode != http.StatusOK {
		return c.answer(resp)
	}
	if err := control.Decode(resp.Body, out); err != nil {
		return fmt.Errorf("read answer of server %s: %w", c.server, err)
	}
	return nil
}

// answer returns what the server said in place of a success.
func (c *connection) answer(resp *http.Response) error {
	var said control.Error
	data, err := io.ReadAll(io.LimitReader(resp.Body, control.MaxBody))
	if err != nil || json.Unmarshal(data, &said) != nil || said.Code == "" {
		return fmt.Errorf("server %s answers %s: is it a plexus server of this version?", c.server, resp.Status)
	}
	return fmt.Errorf("server %s: %w", c.server, &said)
}

// explain finds words for why a server did not answer.
func (c *connection) explain(err error) error {
	var (
		record tls.RecordHeaderError
		dns    *net.DNSError
	)
	hint := ""
	switch {
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		hint = "something else listens there"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nothing listens there; is plexusd running on the server?"
	case errors.As(err, &dns):
		hint = "its name is not known here"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), timeout(err):
		hint = "check the network and that its port is open"
	}
	if hint == "" {
		return fmt.Errorf("reach server %s: %w", c.server, cause(err))
	}
	return fmt.Errorf("reach server %s: %w (%s)", c.server, cause(err), hint)
}

func timeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// cause drops the method and URL that net/http puts before every error.
func cause(err error) error {
	var wrapped interface{ Unwrap() error }
	if errors.As(err, &wrapped) {
		if inner := wrapped.Unwrap(); inner != nil {
			return inner
		}
	}
	return err
}
