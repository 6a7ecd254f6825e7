package registry

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/token"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

// undoTimeout bounds how long a failed enrolment is taken back, after which
// Sweep does it.
const undoTimeout = 15 * time.Second

// admission is a host on its way in.
type admission struct {
	claim   mesh.Claim
	csr     []byte
	source  netip.Addr // where the server saw it; zero if nowhere
	tokenID string     // "" for a server's own host
	secret  string
	host    schema.Host // what is settled without the token
}

// Enrol makes a host part of the mesh, with the labels of its token, and
// returns what it became. source is where the host was seen. Either the host is
// wholly enrolled or nothing of it is left; what a server that dies in between
// leaves is removed by [Service.Sweep].
//
// A host that repeats its request, because the answer got lost, is recognised
// by its token and both its keys and gets the same enrolment again.
func (s *Service) Enrol(ctx context.Context, r control.JoinRequest, source netip.Addr) (control.JoinResponse, error) {
	if err := r.Validate(); err != nil {
		return control.JoinResponse{}, err
	}
	claim, err := r.Claim()
	if err != nil {
		return control.JoinResponse{}, control.Errorf(control.CodeInvalid, "%v", err)
	}
	a := admission{claim: claim, csr: []byte(r.CSR), source: source.Unmap(), tokenID: r.TokenID, secret: r.Secret}
	// reserve looks again; here, whoever has no good token costs one read and
	// does not get in line with those who have.
	if _, err := s.present(ctx, a); err != nil {
		return control.JoinResponse{}, err
	}
	return s.admit(ctx, a)
}

// ServerHost is the host of a server, which its administrator enrols by init.
type ServerHost struct {
	Claim     mesh.Claim
	CSR       []byte
	Labels    map[string]string
	Namespace string
}

// EnrolServer makes a server's own host part of the mesh. Its addresses need
// not be seen: its administrator gives them.
func (s *Service) EnrolServer(ctx context.Context, h ServerHost) (control.JoinResponse, error) {
	if err := control.ValidateClaim(h.Claim); err != nil {
		return control.JoinResponse{}, control.Errorf(control.CodeInvalid, "%v", err)
	}
	return s.admit(ctx, admission{claim: h.Claim, csr: h.CSR, host: schema.Host{
		Labels: h.Labels, Namespace: h.Namespace, Server: true, Advertise: h.Claim.Addresses,
	}})
}

func (s *Service) admit(ctx context.Context, a admission) (control.JoinResponse, error) {
	cert, err := s.opts.CA.Host(a.csr, a.claim.Node)
	if err != nil {
		return control.JoinResponse{}, control.Errorf(control.CodeInvalid, "%v", err)
	}
	if err := a.prepare(cert); err != nil {
		return control.JoinResponse{}, err
	}
	config, err := s.Config(ctx) // for the answer, which must not fail once there is a host
	if err != nil {
		return control.JoinResponse{}, err
	}
	var out *schema.Host
	err = s.transact(ctx, func(snap *snapshot) (ops ops, err error) {
		out, ops, err = s.reserve(ctx, snap, a)
		return ops, err
	})
	if err == nil && out.Phase == schema.Joining {
		err = s.complete(ctx, a)
	}
	if err != nil {
		if !isAnswer(err) { // an answer means that nothing was begun, or that all is gone
			s.undo(ctx, a.host)
		}
		return control.JoinResponse{}, err
	}
	s.opts.Logger.Info("host enrolled", "node", out.Node, "identity", out.Identity)
	return s.response(config, *out, cert), nil
}

// prepare fills in what does not depend on the store.
func (a *admission) prepare(cert ca.Certificate) error {
	leaf, err := ca.ParseCertificate(cert.PEM)
	if err != nil {
		return err
	}
	sum := ca.Hash(leaf)
	now := time.Now().UTC().Truncate(time.Second)
	h := &a.host
	h.Node, h.Key, h.Port = a.claim.Node, a.claim.Key, a.claim.Port
	h.Serial, h.CertKey, h.CertExpires = cert.Serial, hex.EncodeToString(sum[:]), cert.Until
	h.Enrolled, h.Changed, h.Phase, h.Token = now, now, schema.Joining, a.tokenID
	if a.source.IsValid() {
		h.Seen, h.LastSeen, h.SeenAt = []netip.Addr{a.source}, a.source, now
	}
	return nil
}

// reserve plans the first step: one use of the token, and a name, key,
// addresses and identity that nobody else gets.
func (s *Service) reserve(ctx context.Context, snap *snapshot, a admission) (*schema.Host, ops, error) {
	h := a.host
	var tok versioned
	if a.tokenID != "" {
		var err error
		if tok, err = s.present(ctx, a); err != nil {
			return nil, nil, err
		}
		h.Labels, h.Namespace, h.Ephemeral = tok.Labels, tok.Namespace, tok.Ephemeral
	}
	if old, taken := snap.hosts[h.Node]; taken {
		return resume(old, h)
	}
	if err := snap.keyFree(h); err != nil {
		return nil, nil, err
	}
	if err := snap.allocate(&h); err != nil {
		return nil, nil, err
	}
	var w writer
	if a.tokenID != "" {
		if tok.UsesLeft == 0 {
			return nil, nil, control.Errorf(control.CodeTokenUsedUp, "token %s is used up: it was good for %d %s; create another with plexus token create", tok.ID, tok.Uses, hosts(tok.Uses))
		}
		tok.UsesLeft--
		w.add(tok.put())
		snap.conds = append(snap.conds, tok.unchanged())
	}
	w.host(h)
	return &h, w.ops, w.err
}

func hosts(n int) string {
	if n == 1 {
		return "host"
	}
	return "hosts"
}

// present reads the token of a and checks that it is the token, and still good.
// Whoever does not know the secret learns nothing of the token.
func (s *Service) present(ctx context.Context, a admission) (versioned, error) {
	t, err := s.token(ctx, a.tokenID)
	known := err == nil
	if matches := token.Matches(t.Hash, a.tokenID, a.secret); !known || !matches {
		if err != nil && !isAnswer(err) {
			return versioned{}, err
		}
		return versioned{}, control.Errorf(control.CodeTokenUnknown, "token is not known to this mesh: it was made by another mesh, or removed; create another with plexus token create")
	}
	switch state(t.Token, time.Now()) {
	case TokenRevoked:
		return versioned{}, control.Errorf(control.CodeTokenRevoked, "token %s was revoked at %s: create another with plexus token create", t.ID, t.Revoked.Format(time.RFC3339))
	case TokenExpired:
		return versioned{}, control.Errorf(control.CodeTokenExpired, "token %s has expired at %s: create another with plexus token create", t.ID, t.Expires.Format(time.RFC3339))
	}
	return t, nil
}

// resume decides about a name that is taken: the same host asking again gets
// its enrolment, with the certificate of this request.
func resume(old, h schema.Host) (*schema.Host, ops, error) {
	same := old.Token == h.Token && old.Key == h.Key && old.CertKey == h.CertKey
	switch {
	case same && old.Serial == h.Serial: // written by this very request
		return &old, nil, nil
	case same && old.Phase == schema.Enrolled:
		old.Serial, old.CertExpires = h.Serial, h.CertExpires
		var w writer
		w.host(old)
		return &old, w.ops, w.err
	case old.Phase != schema.Enrolled:
		return nil, nil, control.Errorf(control.CodeUnavailable, "host %s is %s at this moment: try again in a minute", old.Node, old.Phase)
	}
	return nil, nil, control.Errorf(control.CodeNameInUse, "node name %s is in use: choose another with --node-name, or remove the old host with plexus node remove %s", old.Node, old.Node)
}

// keyFree refuses a WireGuard key that another host has or had at enrolment.
func (s *snapshot) keyFree(h schema.Host) error {
	inUse := func(by string) error {
		return control.Errorf(control.CodeKeyInUse, "host %s has this host's WireGuard key: was the machine cloned? remove the WireGuard key in the state directory and join again", by)
	}
	for name, other := range s.hosts {
		if other.Key == h.Key {
			return inUse(name)
		}
	}
	for name, fact := range s.facts {
		if fact.Key == h.Key {
			return inUse(name)
		}
	}
	return nil
}

// allocate gives h the first free addresses and the identity of its labels.
func (s *snapshot) allocate(h *schema.Host) (err error) {
	taken := s.taken()
	var ok4, ok6 bool
	h.Mesh4, ok4 = control.FirstFree(s.config.Pool4, taken)
	h.Mesh6, ok6 = control.FirstFree(s.config.Pool6, taken)
	if !ok4 || !ok6 {
		return control.Errorf(control.CodeMeshFull, "mesh %s is full: all addresses of %s are in use by %d hosts; remove hosts that are gone with plexus node remove", s.config.Cluster.Name, s.config.Pool4, len(s.hosts))
	}
	h.Identity, err = control.FirstNumber(s.config.Cluster, s.labels(*h), s.numbers())
	return err
}

// complete creates the host's etcd user and then publishes the host.
func (s *Service) complete(ctx context.Context, a admission) error {
	node := a.claim.Node
	if err := s.opts.Store.EnsureUser(ctx, a.host.User(), schema.HostGrants(node)); err != nil {
		return fmt.Errorf("create etcd user of host %s: %w", node, err)
	}
	return s.transact(ctx, func(snap *snapshot) (ops, error) {
		h, found := snap.hosts[node]
		if !found || h.Serial != a.host.Serial || h.Phase == schema.Leaving {
			return nil, control.Errorf(control.CodeConflict, "host %s was removed while it joined", node)
		}
		if h.Phase == schema.Enrolled {
			return nil, nil // published by an earlier try
		}
		return s.publish(snap, h, a.claim)
	})
}

// publish plans the second step: the host's claim and the facts about it.
func (s *Service) publish(snap *snapshot, h schema.Host, c mesh.Claim) (ops, error) {
	h.Phase = schema.Enrolled
	snap.hosts[h.Node], snap.claims[h.Node] = h, c
	facts, refused := control.Judge(snap.world())
	var w writer
	w.host(h)
	w.claim(c)
	w.identity(snap, h)
	w.facts(snap, h, facts[h.Node])
	w.refusals(h.Node, refused[h.Node])
	s.warn(h.Node, refused[h.Node])
	return w.ops, w.err
}

func (s *Service) response(config schema.MeshConfig, h schema.Host, cert ca.Certificate) control.JoinResponse {
	snap := &snapshot{config: config}
	return control.JoinResponse{
		Certificate: string(cert.PEM), CA: string(s.opts.CA.CertPEM()),
		Cluster: config.Cluster.Name, ClusterID: config.Cluster.ID,
		Mesh4: h.Mesh4, Mesh6: h.Mesh6, Pools: []netip.Prefix{config.Pool4, config.Pool6},
		Identity: uint32(h.Identity), Labels: snap.labels(h).String(), Namespace: h.Namespace,
		Etcd: slices.Clone(config.Etcd), Servers: slices.Clone(config.Servers),
	}
}
