package config

import (
	"time"

	"github.com/plexusmesh/plexus/agent/facts"
)

// defaults hold the value of every key that nobody sets.
var defaults = map[string]any{
	"state-dir":                  "/var/lib/plexus",
	"runtime-dir":                "/run/plexus",
	"bpf-root":                   "/sys/fs/bpf/plexus",
	"cgroup-root":                "/sys/fs/cgroup",
	"interfaces":                 []string{},
	"failsafe":                   facts.DefaultFailsafe(),
	"named-ports":                []string{},
	"policy.dir":                 "/etc/plexus/policies",
	"policy.defaultLocalCluster": true,
	"log.level":                  "info",
	"log.format":                 "text",
	"wireguard.device":           "plexus0",
	"wireguard.port":             51871,
	"encryption.nodeAddresses":   true,
	"api.port":                   7443,
	"etcd.client-port":           2379,
	"etcd.peer-port":             2380,
	"conntrack.size":             262144,
	"flows.capacity":             65535,
	"guard.onFailure":            GuardOpen,
	"guard.timeout":              30 * time.Second,
	"guard.interfaces":           GuardKnown,
	"datapath.xdp":               XDPAuto,
	"datapath.sourceLimit":       0,
}

// usage holds the text of every flag.
var usage = map[string]string{
	"state-dir":                  "directory of keys, certificates and embedded etcd data",
	"runtime-dir":                "directory of the daemon's sockets",
	"bpf-root":                   "directory of BPF pins, on a BPF file system",
	"cgroup-root":                "cgroup v2 mount (for the attribution of processes, which is not built yet)",
	"interfaces":                 "managed network interfaces, names or patterns such as eth* (default: those with a default route or a global address)",
	"failsafe":                   "what passes whatever policy says: wireguard, dhcp, servers, ssh, ports such as \"ingress 8443/TCP\", each with \"from PREFIX\" or \"to PREFIX\"; or none",
	"named-ports":                "ports of this host that policies may name, such as pg=5432/TCP",
	"policy.dir":                 "directory of policies of this host's own",
	"policy.defaultLocalCluster": "whether a peer selector that names no cluster means this host's cluster alone",
	"log.level":                  "debug, info, warn or error",
	"log.format":                 "text or json",
	"wireguard.device":           "name of the WireGuard device",
	"wireguard.port":             "UDP port of WireGuard",
	"encryption.nodeAddresses":   "whether traffic between node addresses of direct peers goes through the tunnel too",
	"api.port":                   "TCP port of the join API on a server",
	"etcd.client-port":           "TCP port of the embedded etcd for clients",
	"etcd.peer-port":             "TCP port of the embedded etcd for its peers",
	"conntrack.size":             "how many open flows are tracked at most",
	"flows.capacity":             "how many observed flows are kept in memory",
	"guard.onFailure":            "what a boot does whose saved policy cannot be put in force: open or closed",
	"guard.timeout":              "after which a boot goes on without what is missing, 1s to 1m",
	"guard.interfaces":           "which interfaces plexusd guard attaches to at boot: known (those that this host last managed) or physical (these, and all that look like hardware)",
	"datapath.xdp":               "whether drivers drop what comes from denied prefixes, before the kernel looks at it: auto or off",
	"datapath.sourceLimit":       "how many flows one address outside the mesh may open to this host in a second; 0 for any number",
}
