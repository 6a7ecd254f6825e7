package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// Protocol is the version of the join API that this build speaks.
const Protocol = 1

// MaxBody bounds, in bytes, what either side of the join API reads of a body.
const MaxBody = 64 << 10

// MaxAddresses bounds how many node addresses a host may claim.
const MaxAddresses = 16

// MaxNamedPorts bounds how many ports a host may declare.
const MaxNamedPorts = 64

// Paths of the join API. All but PathTime take POST.
const (
	PathTime  = "/v1/time"
	PathJoin  = "/v1/join"
	PathLeave = "/v1/leave"
	PathSeen  = "/v1/seen"
)

// JoinRequest is what a host sends to become part of the mesh.
type JoinRequest struct {
	Protocol  int          `json:"protocol"`
	TokenID   string       `json:"tokenID"`
	Secret    string       `json:"secret"`
	Node      string       `json:"node"`
	Addresses []netip.Addr `json:"addresses"` // that it says it has; a claim like any other
	Key       string       `json:"key"`       // WireGuard public key
	Port      uint16       `json:"port"`      // WireGuard UDP port
	Version   string       `json:"version"`
	CSR       string       `json:"csr"` // PEM; its key alone is used
}

// String describes r without its secret.
func (r JoinRequest) String() string { return "join of " + r.Node + " with token " + r.TokenID }

// GoString keeps the secret out of %#v.
func (r JoinRequest) GoString() string { return r.String() }

// JoinResponse is what the host became.
type JoinResponse struct {
	Certificate string         `json:"certificate"` // PEM, the CA's after it
	CA          string         `json:"ca"`          // PEM
	Cluster     string         `json:"cluster"`
	ClusterID   uint32         `json:"clusterID"`
	Mesh4       netip.Addr     `json:"meshIPv4"`
	Mesh6       netip.Addr     `json:"meshIPv6"`
	Pools       []netip.Prefix `json:"pools"`
	Identity    uint32         `json:"identity"`
	Labels      string         `json:"labels"` // as identity.Labels.String writes them
	Namespace   string         `json:"namespace"`
	Etcd        []string       `json:"etcd"`    // endpoint URLs
	Servers     []string       `json:"servers"` // host:port of the join API
}

// SeenResponse says at which address the server saw the host.
type SeenResponse struct {
	Address netip.Addr `json:"address"`
}

// TimeResponse is the server's clock.
type TimeResponse struct {
	Protocol int    `json:"protocol"`
	Time     string `json:"time"` // RFC 3339
}

// Enrolment is what a host remembers of having joined. It holds the host's
// private key: it belongs in a file of mode 0600 and nowhere else.
type Enrolment struct {
	Node           string          `json:"node"`
	Cluster        mesh.Cluster    `json:"cluster"`
	Mesh4          netip.Addr      `json:"meshIPv4"`
	Mesh6          netip.Addr      `json:"meshIPv6"`
	Pools          []netip.Prefix  `json:"pools"`
	Identity       mesh.Identity   `json:"identity"`
	Labels         identity.Labels `json:"labels"`
	Namespace      string          `json:"namespace"`
	Etcd           []string        `json:"etcd"`
	Servers        []string        `json:"servers"`
	Server         bool            `json:"server"`              // whether this host runs the control plane
	Advertise      []netip.Addr    `json:"advertise,omitempty"` // node addresses that its administrator chose; none to claim those it finds
	CertificatePEM []byte          `json:"-"`
	KeyPEM         []byte          `json:"-"`
	CAPEM          []byte          `json:"-"`
}

// String describes e without its key.
func (e Enrolment) String() string { return fmt.Sprintf("%s of mesh %s", e.Node, e.Cluster.Name) }

// GoString keeps the key out of %#v.
func (e Enrolment) GoString() string { return e.String() }

// Decode reads one JSON value of at most [MaxBody] bytes from r into v. A field
// that v does not have is refused, so that a misspelt one is never ignored.
func Decode(r io.Reader, v any) error {
	data, err := io.ReadAll(io.LimitReader(r, MaxBody+1))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(data) > MaxBody {
		return Errorf(CodeInvalid, "body is larger than %d bytes", MaxBody)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return Errorf(CodeInvalid, "decode body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeInvalid, "decode body: more than one JSON value")
	}
	return nil
}

// Validate reports what is wrong with a request by itself.
func (r JoinRequest) Validate() error {
	if r.Protocol != Protocol {
		return Errorf(CodeVersion, "this host speaks version %d of the join protocol and the server version %d: install the same plexus on both", r.Protocol, Protocol)
	}
	if _, err := r.Claim(); err != nil {
		return Errorf(CodeInvalid, "%v", err)
	}
	return nil
}

// Claim returns what the request says of its host.
func (r JoinRequest) Claim() (mesh.Claim, error) {
	key, err := mesh.ParseKey(r.Key)
	switch {
	case err != nil:
		return mesh.Claim{}, err
	case key.IsZero():
		return mesh.Claim{}, errors.New("WireGuard key is all zero")
	}
	for _, a := range r.Addresses {
		if !a.IsValid() || a.Zone() != "" {
			return mesh.Claim{}, errors.New("a node address is empty or has a zone: use those that other hosts can reach")
		}
	}
	c := mesh.Claim{Node: r.Node, Addresses: r.Addresses, Key: key, Port: r.Port, Version: r.Version}
	return c, ValidateClaim(c)
}

// unprintable keeps out what would command the terminal of whoever lists hosts.
func unprintable(r rune) bool { return r < ' ' || r > '~' }

// ValidateClaim reports why c cannot be a claim at all, whoever makes it.
func ValidateClaim(c mesh.Claim) error {
	if err := mesh.ValidateNodeName(c.Node); err != nil {
		return err
	}
	switch {
	case len(c.Addresses) > MaxAddresses:
		return fmt.Errorf("%d node addresses: use at most %d", len(c.Addresses), MaxAddresses)
	case len(c.NamedPorts) > MaxNamedPorts:
		return fmt.Errorf("%d named ports: use at most %d", len(c.NamedPorts), MaxNamedPorts)
	case c.Port == 0:
		return errors.New("WireGuard port is 0")
	case len(c.Version) > 64:
		return fmt.Errorf("agent version has %d characters: use at most 64", len(c.Version))
	case strings.ContainsFunc(c.Version, unprintable):
		return fmt.Errorf("agent version %q: use printable ASCII characters", c.Version)
	}
	return nil
}
