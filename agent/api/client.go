package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// ErrNotRunning is what errors are when no daemon listens on the socket.
var ErrNotRunning = errors.New("plexusd is not running")

// notRunning is ErrNotRunning with what to do about it.
type notRunning struct{ socket string }

func (e *notRunning) Error() string {
	return fmt.Sprintf("plexusd does not answer at %s: start it (systemctl start plexusd) or choose another with --socket", e.socket)
}

func (e *notRunning) Is(target error) bool { return target == ErrNotRunning }

// Client asks a daemon over its socket. It answers like the daemon's Backend.
type Client struct {
	socket string
	http   *http.Client
}

var _ Backend = (*Client)(nil)

// NewClient returns a client of the daemon at socket. It connects with the
// first call.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{
		Transport:     &http.Transport{DialContext: dial, MaxIdleConns: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close drops the connection to the daemon.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// send makes one request. The caller closes the body of the response, whose
// status is 200.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request to plexusd: %w", err)
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://plexusd"+path, r)
	if err != nil {
		return nil, fmt.Errorf("ask plexusd for %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// explain says what to do about an error of the connection.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // its method and URL are made up
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &notRunning{c.socket}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connect to plexusd at %s: permission denied: run plexus as root", c.socket)
	}
	return fmt.Errorf("ask plexusd at %s: %w", c.socket, err)
}

// refusal decodes the Error of an answer.
func (c *Client) refusal(resp *http.Response) error {
	e := &Error{}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxApplyBody))
	if err != nil || json.Unmarshal(data, e) != nil || e.Text == "" {
		return Errorf(CodeInternal, "ask plexusd at %s: it answered %s", c.socket, resp.Status)
	}
	return e
}

// call makes one request and decodes the answer.
func call[Resp any](ctx context.Context, c *Client, method, path string, body any) (Resp, error) {
	var out Resp
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return out, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("decode the answer of plexusd at %s: %w", c.socket, err)
	}
	return out, nil
}
