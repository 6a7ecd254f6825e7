package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/plexusmesh/plexus/kvstore/internal/zaplog"
)

// Defaults of [Options].
const (
	DefaultClientPort = 2379
	DefaultPeerPort   = 2380
	DefaultQuota      = 2 << 30
)

// Files names the PEM files of one side of TLS. They are read again for every
// connection, so that renewed certificates count at once.
type Files struct {
	Cert string // server certificate; usable for servers and, towards peers, for clients
	Key  string
	CA   string // signs the certificates that are let in
}

// Options configures a [Server].
type Options struct {
	Dir    string         // where the data is; made with mode 0700; required
	Name   string         // of this member; default "plexus"
	Listen netip.AddrPort // for clients; default 0.0.0.0:2379, which covers IPv6 too
	TLS    *Files         // nil serves plaintext: for tests on loopback only
	Logger *slog.Logger   // required; etcd's narration appears at debug

	// Peer is where other etcd members connect. The default, 127.0.0.1:2380,
	// is right for a single server: nobody else needs it.
	Peer netip.AddrPort
	// PeerTLS and PeerNames, the common names of the servers' certificates,
	// are required with TLS, and when Peer is not loopback. What a member says
	// is done without asking which user it is: without TLS every process of
	// this machine could write any key, and without names every host.
	PeerTLS   *Files
	PeerNames []string

	Quota int64 // bytes at which etcd takes no more writes; default 2 GiB

	// UnsafeNoFsync leaves writes to the page cache, where a crash of the
	// machine loses them. For tests.
	UnsafeNoFsync bool
}

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = "plexus"
	}
	if !o.Listen.IsValid() {
		o.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), DefaultClientPort)
	}
	if !o.Peer.IsValid() {
		o.Peer = netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", DefaultPeerPort))
	}
	if o.Quota == 0 {
		o.Quota = DefaultQuota
	}
	return o
}

// validate joins everything that is wrong.
func (o Options) validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("etcd: no data directory is given"))
	}
	if o.Logger == nil {
		errs = append(errs, errors.New("etcd: no logger is given"))
	}
	if o.TLS == nil && !o.Listen.Addr().IsLoopback() {
		errs = append(errs, fmt.Errorf("etcd: listening on %s needs TLS", o.Listen))
	}
	if (o.TLS != nil || !o.Peer.Addr().IsLoopback()) && (o.PeerTLS == nil || len(o.PeerNames) == 0) {
		errs = append(errs, fmt.Errorf("etcd: listening for members on %s needs TLS and their names", o.Peer))
	}
	return errors.Join(errs...)
}

// etcd translates the options. The numbers suit a small server: a mesh of
// thousands of hosts has tens of megabytes of state.
func (o Options) etcd() *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, o.Dir
	cfg.ListenClientUrls = []url.URL{urlOf(o.Listen, o.TLS != nil)}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = []url.URL{urlOf(o.Peer, o.PeerTLS != nil)}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(o.Name)
	// Cilium takes a changed cluster id as "another etcd behind the same
	// address" and starts over. The token makes the id of new data unlike
	// that of data that stood here before; restarts keep the id.
	cfg.InitialClusterToken = rand.Text()

	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zaplog.New(o.Logger, zaplog.Server))
	cfg.EnableGRPCGateway = false // it does not know users by certificate
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = "1h"
	cfg.QuotaBackendBytes = o.Quota
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 5000, 1000
	cfg.MaxSnapFiles, cfg.MaxWalFiles = 2, 2
	cfg.UnsafeNoFsync = o.UnsafeNoFsync

	cfg.ClientTLSInfo = tlsOf(o.TLS)
	cfg.PeerTLSInfo = tlsOf(o.PeerTLS)
	cfg.PeerTLSInfo.AllowedCNs = o.PeerNames
	return cfg
}

func tlsOf(f *Files) transport.TLSInfo {
	if f == nil {
		return transport.TLSInfo{}
	}
	return transport.TLSInfo{CertFile: f.Cert, KeyFile: f.Key, TrustedCAFile: f.CA, ClientCertAuth: true}
}

func urlOf(a netip.AddrPort, secure bool) url.URL {
	if secure {
		return url.URL{Scheme: "https", Host: a.String()}
	}
	return url.URL{Scheme: "http", Host: a.String()}
}
