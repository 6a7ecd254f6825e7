package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

// Bounds of tokens.
const (
	DefaultTTL = time.Hour
	maxTTL     = 365 * 24 * time.Hour
	maxUses    = 10000
	maxLabels  = 64
	maxWords   = 256 // of a description, in bytes

	// keepTokens is how long a token is listed, and known by name to whoever
	// tries it, after its time.
	keepTokens = 7 * 24 * time.Hour
)

// TokenOptions says what a join token is good for.
type TokenOptions struct {
	TTL         time.Duration     // default DefaultTTL
	Uses        int               // default 1
	Labels      map[string]string // of the hosts that join with it
	Namespace   string            // default identity.DefaultNamespace
	Ephemeral   bool              // refused, like Server: see CreateToken
	Server      bool
	Description string
	Author      string
}

// TokenState says whether a token lets a host join.
type TokenState string

// States of a token.
const (
	TokenValid   TokenState = "valid"
	TokenExpired TokenState = "expired"
	TokenUsedUp  TokenState = "used up"
	TokenRevoked TokenState = "revoked"
)

// Token is a join token as it is listed. It holds no secret and no hash.
type Token struct {
	ID          string
	State       TokenState
	Created     time.Time
	Expires     time.Time
	Uses        int
	UsesLeft    int
	Labels      map[string]string
	Namespace   string
	Ephemeral   bool
	Description string
	Author      string
}

// CreateToken makes a join token. The returned string is the only form that
// holds its secret, and it is kept nowhere.
func (s *Service) CreateToken(ctx context.Context, o TokenOptions) (text string, created Token, err error) {
	if o, err = o.withDefaults(); err != nil {
		return "", Token{}, err
	}
	config, err := s.Config(ctx)
	if err != nil {
		return "", Token{}, err
	}
	t, err := token.New(config.Servers, s.opts.CA.Hash())
	if err != nil {
		return "", Token{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	record := schema.Token{
		ID: t.ID(), Hash: t.Hash(), Created: now, Expires: now.Add(o.TTL), Uses: o.Uses, UsesLeft: o.Uses,
		Labels: o.Labels, Namespace: o.Namespace, Ephemeral: o.Ephemeral, Description: o.Description, Author: o.Author,
	}
	value, err := schema.EncodeToken(record)
	if err != nil {
		return "", Token{}, err
	}
	key := schema.TokenKey(t.ID())
	ok, err := s.opts.Store.Commit(ctx, []kvstore.Cond{kvstore.Absent(key)}, []kvstore.Op{kvstore.OpPut(key, value, 0)})
	if err != nil || !ok {
		return "", Token{}, fmt.Errorf("store token %s: %w", t.ID(), errors.Join(err))
	}
	return t.Format(), listed(record, now), nil
}

func (o TokenOptions) withDefaults() (TokenOptions, error) {
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.Uses == 0 {
		o.Uses = 1
	}
	if o.Namespace == "" {
		o.Namespace = identity.DefaultNamespace
	}
	return o, o.validate()
}

func (o TokenOptions) validate() error {
	invalid := func(format string, args ...any) error { return control.Errorf(control.CodeInvalid, format, args...) }
	switch {
	case o.Server:
		return invalid("tokens for further servers are not supported yet: a mesh has the one server that init made")
	case o.Ephemeral:
		return invalid("tokens for ephemeral hosts are not supported yet, since nothing would remove such a host: leave --ephemeral out, and remove hosts with plexus node remove")
	case o.TTL < time.Second || o.TTL > maxTTL:
		return invalid("token lifetime %s is out of range: use 1s to %s", o.TTL, maxTTL)
	case o.Uses < 1 || o.Uses > maxUses:
		return invalid("token uses %d is out of range: use 1 to %d", o.Uses, maxUses)
	case len(o.Labels) > maxLabels:
		return invalid("%d labels: use at most %d", len(o.Labels), maxLabels)
	case len(o.Description) > maxWords:
		return invalid("token description has %d bytes: use at most %d", len(o.Description), maxWords)
	}
	if err := identity.ValidateNamespace(o.Namespace); err != nil {
		return invalid("%v", err)
	}
	for k, v := range o.Labels {
		if err := identity.ValidateLabel(k, v); err != nil {
			return invalid("%v", err)
		}
	}
	return nil
}

// Tokens lists all tokens, newest first.
func (s *Service) Tokens(ctx context.Context) ([]Token, error) {
	kvs, _, err := s.opts.Store.List(ctx, schema.TokensPrefix)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	out := make([]Token, 0, len(kvs))
	for _, kv := range kvs {
		t, err := schema.DecodeToken(strings.TrimPrefix(kv.Key, schema.TokensPrefix), kv.Value)
		if err != nil {
			return nil, fmt.Errorf("list tokens: %w", err)
		}
		out = append(out, listed(t, time.Now()))
	}
	slices.SortStableFunc(out, func(a, b Token) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// RevokeToken makes a token useless at once. Hosts that joined with it stay.
func (s *Service) RevokeToken(ctx context.Context, id string) error {
	for range attempts {
		t, err := s.token(ctx, id)
		if err != nil || !t.Revoked.IsZero() {
			return err
		}
		t.Revoked = time.Now().UTC()
		op, err := t.put()
		if err != nil {
			return err
		}
		ok, err := s.opts.Store.Commit(ctx, []kvstore.Cond{t.unchanged()}, []kvstore.Op{op})
		if err != nil || ok {
			return err
		}
	}
	return errContended
}

// token reads one token. Its absence is a [control.Error] with CodeNotFound.
func (s *Service) token(ctx context.Context, id string) (versioned, error) {
	if err := token.ValidateID(id); err != nil {
		return versioned{}, control.Errorf(control.CodeInvalid, "%v", err)
	}
	kv, found, err := s.opts.Store.Get(ctx, schema.TokenKey(id))
	if err != nil {
		return versioned{}, fmt.Errorf("read token %s: %w", id, err)
	}
	if !found {
		return versioned{}, control.Errorf(control.CodeNotFound, "there is no token %s: see plexus token list", id)
	}
	t, err := schema.DecodeToken(id, kv.Value)
	return versioned{t, kv.ModRevision}, err
}

func (v versioned) unchanged() kvstore.Cond {
	return kvstore.Unchanged(schema.TokenKey(v.ID), v.revision)
}

func (v versioned) put() (kvstore.Op, error) {
	value, err := schema.EncodeToken(v.Token)
	return kvstore.OpPut(schema.TokenKey(v.ID), value, 0), err
}

func state(t schema.Token, now time.Time) TokenState {
	switch {
	case !t.Revoked.IsZero():
		return TokenRevoked
	case !now.Before(t.Expires):
		return TokenExpired
	case t.UsesLeft == 0:
		return TokenUsedUp
	}
	return TokenValid
}

func listed(t schema.Token, now time.Time) Token {
	return Token{
		ID: t.ID, State: state(t, now), Created: t.Created, Expires: t.Expires, Uses: t.Uses, UsesLeft: t.UsesLeft,
		Labels: t.Labels, Namespace: t.Namespace, Ephemeral: t.Ephemeral, Description: t.Description, Author: t.Author,
	}
}
