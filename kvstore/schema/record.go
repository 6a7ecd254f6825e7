package schema

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/plexusmesh/plexus/mesh"
)

// Token is a join token as servers keep it. The secret itself is nowhere.
type Token struct {
	ID        string            `json:"id"`
	Hash      string            `json:"hash"` // SHA-256 of the secret, lower-case hex; the secret is random, so no salt is needed
	Created   time.Time         `json:"created"`
	Expires   time.Time         `json:"expires"`
	Uses      int               `json:"uses"`     // as created
	UsesLeft  int               `json:"usesLeft"` // 0 when used up
	Labels    map[string]string `json:"labels,omitempty"`
	Namespace string            `json:"namespace"`
	Ephemeral bool              `json:"ephemeral,omitempty"`
	Server    bool              `json:"server,omitempty"`
	Author    string            `json:"author,omitempty"`

	Description string    `json:"description,omitempty"`
	Revoked     time.Time `json:"revoked,omitzero"` // zero while it is not
}

// EncodeToken renders a token for [TokenKey].
func EncodeToken(t Token) ([]byte, error) { return encode(t) }

// DecodeToken reads the token found under that id.
func DecodeToken(id string, value []byte) (Token, error) {
	key := TokenKey(id)
	t, err := decode[Token](key, value)
	if err != nil {
		return Token{}, err
	}
	sum, herr := hex.DecodeString(t.Hash)
	switch {
	case t.ID != id || id == "":
		return Token{}, refuse(key, "id", "is %q, unlike the key", t.ID)
	case herr != nil || len(sum) != 32:
		return Token{}, refuse(key, "hash", "is no SHA-256 in hex")
	case t.UsesLeft < 0 || t.UsesLeft > t.Uses:
		return Token{}, refuse(key, "usesLeft", "is %d of %d", t.UsesLeft, t.Uses)
	}
	return t, nil
}

// Revoked is a certificate that nobody may accept any more.
type Revoked struct {
	Serial  string    `json:"serial"` // lower-case hex
	Node    string    `json:"node"`
	Time    time.Time `json:"time"`
	Expires time.Time `json:"expires"` // of the certificate; the record may go then
	Author  string    `json:"author,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// EncodeRevoked renders it for [RevokedKey].
func EncodeRevoked(r Revoked) ([]byte, error) { return encode(r) }

// DecodeRevoked reads the revocation found under that serial.
func DecodeRevoked(serial string, value []byte) (Revoked, error) {
	key := RevokedKey(serial)
	r, err := decode[Revoked](key, value)
	if err != nil {
		return Revoked{}, err
	}
	if r.Serial != serial || serial == "" {
		return Revoked{}, refuse(key, "serial", "is %q, unlike the key", r.Serial)
	}
	return r, nil
}

// MeshConfig is what init settled for the whole mesh.
type MeshConfig struct {
	Cluster mesh.Cluster `json:"-"`
	Pool4   netip.Prefix `json:"pool4"`   // of mesh IPv4 addresses
	Pool6   netip.Prefix `json:"pool6"`   // of mesh IPv6 addresses
	Version int          `json:"version"` // of this layout of keys
	Created time.Time    `json:"created"`
	Etcd    []string     `json:"etcd,omitempty"`    // endpoint URLs for hosts
	Servers []string     `json:"servers,omitempty"` // host:port of the join API
}

// Version is the layout of keys that this code reads and writes.
const Version = 1

// meshConfigJSON writes the cluster in lower case, like everything around it.
type meshConfigJSON struct {
	MeshConfig
	Cluster struct {
		Name string `json:"name"`
		ID   uint32 `json:"id"`
	} `json:"cluster"`
}

// EncodeMeshConfig renders it for [ConfigKey].
func EncodeMeshConfig(c MeshConfig) ([]byte, error) {
	out := meshConfigJSON{MeshConfig: c}
	out.Cluster.Name, out.Cluster.ID = c.Cluster.Name, c.Cluster.ID
	return encode(out)
}

// DecodeMeshConfig reads the value of [ConfigKey].
func DecodeMeshConfig(value []byte) (MeshConfig, error) {
	in, err := decode[meshConfigJSON](ConfigKey, value)
	if err != nil {
		return MeshConfig{}, err
	}
	c := in.MeshConfig
	c.Cluster = mesh.Cluster(in.Cluster)
	return c, c.check()
}

func (c *MeshConfig) check() error {
	if c.Version != Version {
		return refuse(ConfigKey, "version", "is %d, this program knows %d: upgrade it", c.Version, Version)
	}
	if err := mesh.ValidateClusterName(c.Cluster.Name); err != nil {
		return refuse(ConfigKey, "cluster.name", "%v", err)
	}
	if err := mesh.ValidateClusterID(c.Cluster.ID, true); err != nil {
		return refuse(ConfigKey, "cluster.id", "%v", err)
	}
	if !c.Pool4.IsValid() || !c.Pool4.Addr().Is4() {
		return refuse(ConfigKey, "pool4", "%s is no IPv4 prefix", c.Pool4)
	}
	if !c.Pool6.IsValid() || !c.Pool6.Addr().Is6() || c.Pool6.Addr().Is4In6() {
		return refuse(ConfigKey, "pool6", "%s is no IPv6 prefix", c.Pool6)
	}
	return nil
}

// Audit is one act of administration, refused ones included.
type Audit struct {
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"` // "token.create", "policy.apply", …
	Object string    `json:"object,omitempty"`
	Result string    `json:"result"` // "ok", or why not
}

// EncodeAudit renders it for [AuditKey].
func EncodeAudit(a Audit) ([]byte, error) { return encode(a) }

// DecodeAudit reads the record found under that name.
func DecodeAudit(name string, value []byte) (Audit, error) {
	return decode[Audit](AuditPrefix+name, value)
}
