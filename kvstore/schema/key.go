package schema

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/plexusmesh/plexus/mesh"
)

// Keys of what the own mesh shares with Cilium, apart from those of a [Layout].
const (
	HeartbeatKey        = "cilium/.heartbeat" // RFC 3339 time, written every minute
	ClusterConfigPrefix = "cilium/cluster-config/"
)

// HeartbeatPeriod is how often the leading server writes HeartbeatKey. Cilium's
// readers give a connection up after two minutes without a write.
const HeartbeatPeriod = time.Minute

// Keys and prefixes that are Plexus's own.
const (
	ClaimsPrefix   = "plexus/v1/claims/"   // + node: [mesh.Claim]
	LivePrefix     = "plexus/v1/live/"     // + node, leased: [Live]
	HostsPrefix    = "plexus/v1/hosts/"    // + node: [Host]
	TokensPrefix   = "plexus/v1/tokens/"   // + id: [Token]
	RevokedPrefix  = "plexus/v1/revoked/"  // + certificate serial: [Revoked]
	PoliciesPrefix = "plexus/v1/policies/" // + name: [Policy]
	ConfigKey      = "plexus/v1/config"    // [MeshConfig]
	AuditPrefix    = "plexus/v1/audit/"    // + time-id: [Audit]
	LeadersPrefix  = "plexus/v1/leaders/"

	// PolicyRevisionKey holds the newest [PolicyRevision]. It lies among the
	// policies, which have no names that begin with a dot, so that whoever watches
	// them sees each revision whole: the documents, and what they belong to.
	PolicyRevisionKey = PoliciesPrefix + PolicyRevisionName

	// PolicyHistoryPrefix holds the earlier ones. Hosts cannot read it.
	PolicyHistoryPrefix = "plexus/v1/policy-revisions/"

	// OldPolicyRevisionKey is where the newest revision was before it had a
	// history; a server moves it.
	OldPolicyRevisionKey = "plexus/v1/policy-revision"
)

// PolicyRevisionName is what follows PoliciesPrefix in PolicyRevisionKey.
const PolicyRevisionName = ".revision"

// ClaimKey is where a host says what it is.
func ClaimKey(node string) string { return ClaimsPrefix + node }

// LiveKey is where a host shows that it lives.
func LiveKey(node string) string { return LivePrefix + node }

// HostKey is where a host's enrolment is kept.
func HostKey(node string) string { return HostsPrefix + node }

// TokenKey is where a join token is kept, hashed.
func TokenKey(id string) string { return TokensPrefix + id }

// RevokedKey is where the revocation of a certificate is kept.
func RevokedKey(serial string) string { return RevokedPrefix + serial }

// PolicyKey is where a policy document is kept.
func PolicyKey(name string) string { return PoliciesPrefix + name }

// PolicyHistoryKey is where an earlier revision of the policies is kept. Keys
// sort by revision.
func PolicyHistoryKey(revision uint64) string {
	return fmt.Sprintf("%s%020d", PolicyHistoryPrefix, revision)
}

// LeaderPrefix is where servers compete for an office.
func LeaderPrefix(office string) string { return LeadersPrefix + office + "/" }

// AuditKey is where an administrative act is kept. Keys sort by time; id tells
// apart what happened in the same nanosecond.
func AuditKey(at time.Time, id string) string {
	return AuditPrefix + at.UTC().Format("20060102T150405.000000000Z") + "-" + id
}

// ClusterConfigKey is where a cluster says what it offers.
func ClusterConfigKey(cluster string) string { return ClusterConfigPrefix + cluster }

// SyncedPrefix holds the canaries of a cluster.
func SyncedPrefix(cluster string) string { return "cilium/synced/" + cluster + "/" }

// Resource is a kind of state that clusters share.
type Resource string

// Resources, in the order in which a cluster publishes them.
const (
	Identities Resource = "identities"
	Nodes      Resource = "nodes"
	IPs        Resource = "ip"
	Services   Resource = "services"
)

// Resources returns all of them.
func Resources() []Resource { return []Resource{Identities, Nodes, IPs, Services} }

// Layout says where the state of one cluster is: at the cluster itself, or in
// the cache in which another cluster's servers reflect it
// (CiliumClusterConfig.capabilities.cached).
type Layout struct {
	Cluster string
	Cached  bool
}

// root is the prefix of a resource without the cluster.
func (l Layout) root(r Resource) string {
	if l.Cached {
		return "cilium/cache/" + string(r) + "/v1"
	}
	return "cilium/state/" + string(r) + "/v1"
}

// Prefix is what holds a resource; what follows it in a key is what decoders
// take as name.
func (l Layout) Prefix(r Resource) string {
	switch {
	case r == Identities && l.Cached:
		return l.root(r) + "/" + l.Cluster + "/id/"
	case r == Identities:
		return l.root(r) + "/id/"
	case r == IPs && !l.Cached:
		return l.root(r) + "/default/"
	default:
		return l.root(r) + "/" + l.Cluster + "/"
	}
}

// Synced is the canary that appears once all of a resource is written.
func (l Layout) Synced(r Resource) string { return SyncedPrefix(l.Cluster) + l.root(r) }

// Node is the key of a node.
func (l Layout) Node(name string) string { return l.Prefix(Nodes) + name }

// Endpoint is the key of an endpoint.
func (l Layout) Endpoint(p netip.Prefix) string { return l.Prefix(IPs) + EndpointName(p) }

// Identity is the key of an identity.
func (l Layout) Identity(id mesh.Identity) string {
	return l.Prefix(Identities) + strconv.FormatUint(uint64(id), 10)
}

// EndpointName is the last part of an endpoint's key: an address when the
// prefix holds just one, otherwise the prefix.
func EndpointName(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// parseEndpointName is the inverse of EndpointName. It takes canonical names
// only, so that one prefix has one key.
func parseEndpointName(name string) (netip.Prefix, bool) {
	var p netip.Prefix
	if strings.Contains(name, "/") {
		p, _ = netip.ParsePrefix(name)
	} else if a, err := netip.ParseAddr(name); err == nil && a.Zone() == "" {
		p = mesh.HostPrefix(a)
	}
	ok := p.IsValid() && p == p.Masked() && !p.Addr().Is4In6() && EndpointName(p) == name
	return p, ok
}
