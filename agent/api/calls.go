package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/plexusmesh/plexus/observe"
)

// Status asks how this host is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, pathStatus, nil)
}

// Init makes a mesh with this host as its first server.
func (c *Client) Init(ctx context.Context, r InitRequest) (Joined, error) {
	return call[Joined](ctx, c, http.MethodPost, pathInit, r)
}

// Join makes this host part of a mesh.
func (c *Client) Join(ctx context.Context, r JoinRequest) (Joined, error) {
	return call[Joined](ctx, c, http.MethodPost, pathJoin, r)
}

// Leave takes this host out of its mesh.
func (c *Client) Leave(ctx context.Context, r LeaveRequest) error {
	_, err := call[empty](ctx, c, http.MethodPost, pathLeave, r)
	return err
}

// Nodes lists the hosts of the mesh.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return call[[]Node](ctx, c, http.MethodGet, pathNodes, nil)
}

// RemoveNode takes another host out of the mesh.
func (c *Client) RemoveNode(ctx context.Context, name string) error {
	_, err := call[empty](ctx, c, http.MethodDelete, pathNodes+"/"+url.PathEscape(name), nil)
	return err
}

// Identities lists the identities of the mesh.
func (c *Client) Identities(ctx context.Context) ([]Identity, error) {
	return call[[]Identity](ctx, c, http.MethodGet, pathIdentities, nil)
}

// CreateToken makes a join token.
func (c *Client) CreateToken(ctx context.Context, r TokenRequest) (TokenCreated, error) {
	return call[TokenCreated](ctx, c, http.MethodPost, pathTokens, r)
}

// Tokens lists the join tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return call[[]Token](ctx, c, http.MethodGet, pathTokens, nil)
}

// RevokeToken makes a join token worthless.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := call[empty](ctx, c, http.MethodDelete, pathTokens+"/"+url.PathEscape(id), nil)
	return err
}

// IPCache lists what the kernel knows of addresses.
func (c *Client) IPCache(ctx context.Context) ([]IPCacheEntry, error) {
	return call[[]IPCacheEntry](ctx, c, http.MethodGet, pathIPCache, nil)
}

// PolicyMap lists the verdicts in the kernel.
func (c *Client) PolicyMap(ctx context.Context) ([]PolicyEntry, error) {
	return call[[]PolicyEntry](ctx, c, http.MethodGet, pathPolicyMap, nil)
}

// Flows lists the connections that the kernel tracks.
func (c *Client) Flows(ctx context.Context) ([]FlowEntry, error) {
	return call[[]FlowEntry](ctx, c, http.MethodGet, pathFlows, nil)
}

// Counters lists the datapath's packet counters.
func (c *Client) Counters(ctx context.Context) ([]CounterEntry, error) {
	return call[[]CounterEntry](ctx, c, http.MethodGet, pathCounters, nil)
}

// Tables lists the datapath's tables with how full they are.
func (c *Client) Tables(ctx context.Context) ([]TableEntry, error) {
	return call[[]TableEntry](ctx, c, http.MethodGet, pathTables, nil)
}

// Observe yields flows as the daemon sends them. An *observe.LostError among
// them says that some were missed; every other error is the last value.
func (c *Client) Observe(ctx context.Context, q observe.Query) iter.Seq2[observe.Flow, error] {
	return func(yield func(observe.Flow, error) bool) {
		resp, err := c.send(ctx, http.MethodPost, pathObserve, q)
		if err != nil {
			yield(observe.Flow{}, err)
			return
		}
		defer resp.Body.Close()
		d := json.NewDecoder(bufio.NewReader(resp.Body))
		for {
			flow, err := next(d)
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return
			}
			if !yield(flow, err) || ends(err) {
				return
			}
		}
	}
}

// next reads one line. It returns io.EOF itself where the daemon ended the
// stream in order.
func next(d *json.Decoder) (observe.Flow, error) {
	var l line
	if err := d.Decode(&l); err != nil {
		return observe.Flow{}, err
	}
	return l.event()
}

// ends reports whether nothing follows err.
func ends(err error) bool {
	var lost *observe.LostError
	return err != nil && !errors.As(err, &lost)
}
