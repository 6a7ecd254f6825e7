package bpfobj

import "fmt"

// reasonWords name every drop reason as users read it.
var reasonWords = [PlexusDropReasonDROP_REASONS]string{
	PlexusDropReasonDROP_NONE:                "forwarded",
	PlexusDropReasonDROP_POLICY:              "policy denied",
	PlexusDropReasonDROP_POLICY_DENY:         "denied by rule",
	PlexusDropReasonDROP_NO_POLICY:           "no policy loaded",
	PlexusDropReasonDROP_MESH_SOURCE_OUTSIDE: "mesh address outside the tunnel",
	PlexusDropReasonDROP_PLAINTEXT:           "plaintext to a mesh address",
	PlexusDropReasonDROP_LOCAL_SOURCE:        "spoofed local address",
	PlexusDropReasonDROP_TUNNEL_SOURCE:       "unknown tunnel source",
	PlexusDropReasonDROP_TUNNEL_DESTINATION:  "unknown tunnel destination",
	PlexusDropReasonDROP_TRUNCATED:           "truncated packet",
	PlexusDropReasonDROP_MALFORMED:           "malformed header",
	PlexusDropReasonDROP_MAPPED_ADDRESS:      "IPv4-mapped address in IPv6",
	PlexusDropReasonDROP_EXTENSION_HEADERS:   "too many extension headers",
	PlexusDropReasonDROP_FRAGMENT:            "fragment without its first",
	PlexusDropReasonDROP_NODE_PLAINTEXT:      "plaintext between members",
	PlexusDropReasonDROP_TUNNEL_LOCAL:        "not our address in the tunnel",
	PlexusDropReasonDROP_RATE_LIMIT:          "rate limit of its source",
}

// String returns the words for r: "forwarded", or why a packet was dropped. A
// reason that this agent does not know, from a newer program, shows its number.
func (r PlexusDropReason) String() string {
	if r < PlexusDropReasonDROP_REASONS {
		return reasonWords[r]
	}
	return fmt.Sprintf("reason %d", uint32(r))
}
