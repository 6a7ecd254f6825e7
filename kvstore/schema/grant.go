package schema

// Grant is a right of an etcd user: to a key or, when Key ends in a slash, to
// everything under it.
type Grant struct {
	Key   string
	Read  bool
	Write bool
}

// HostGrants returns what the host node may do in etcd, and is the only place
// that says so: read what the mesh shares, and write its own claim and its own
// sign of life. Tokens, enrolments, other hosts' claims and the audit log stay
// closed to it.
func HostGrants(node string) []Grant {
	return []Grant{
		{Key: "cilium/", Read: true},
		{Key: PoliciesPrefix, Read: true},
		{Key: ConfigKey, Read: true},
		{Key: RevokedPrefix, Read: true},
		{Key: LivePrefix, Read: true},
		{Key: RefusalKey(node), Read: true},
		{Key: ClaimKey(node), Read: true, Write: true},
		{Key: LiveKey(node), Read: true, Write: true},
	}
}

// ReaderGrants returns what another cluster that federates with cluster may do
// in etcd (Cilium: role "remote").
func ReaderGrants(cluster string) []Grant {
	return []Grant{
		{Key: HeartbeatKey, Read: true},
		{Key: "cilium/state/", Read: true},
		{Key: ClusterConfigKey(cluster), Read: true},
		{Key: SyncedPrefix(cluster), Read: true},
	}
}

// HostUser is the etcd user of a host, the common name of its certificate. The
// part before the first colon keeps hosts apart from servers, from etcd's own
// "root" and from the "remote-…" users of Cilium, whatever a host is called.
// That after the second, of certKey ([Host.CertKey]), keeps it apart from an
// earlier host of its name, whose certificate may be in other hands.
func HostUser(node, certKey string) string {
	return "host:" + node + ":" + certKey[:min(len(certKey), 16)]
}

// ServerUser is the etcd user of a server, the common name of the certificate
// that it uses towards etcd.
func ServerUser(node string) string { return "server:" + node }
