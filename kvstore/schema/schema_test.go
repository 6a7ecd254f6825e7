package schema_test

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/kvstore/schema"
	"github.com/plexusmesh/plexus/mesh"
)

var vms = mesh.Cluster{Name: "vms", ID: 42}

var (
	pubKey = mesh.Key{1, 2, 3}
	now    = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	exact  = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}
)

// The JSON of Cilium, as in its readers' documentation of the protocol.
const (
	ciliumNode = `{"Name":"vm-7","Cluster":"vms","ClusterID":42,
 "IPAddresses":[{"Type":"CiliumInternalIP","IP":"10.42.7.1"},{"Type":"ExternalIP","IP":"203.0.113.7"},{"Type":"InternalIP","IP":"192.0.2.7"},{"Type":"InternalIP","IP":"127.0.0.1"}],
 "IPv4AllocCIDR":{"IP":"10.42.7.0","Mask":"////AA=="},"IPv4SecondaryAllocCIDRs":null,
 "IPv6AllocCIDR":"2001:db8::/64","IPv6SecondaryAllocCIDRs":null,
 "IPv4HealthIP":"","IPv6HealthIP":"","IPv4IngressIP":"","IPv6IngressIP":"",
 "Source":"kvstore","EncryptionKey":255,"Labels":{},"Annotations":{},
 "WireguardPubKey":"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","BootID":"x","NewField":{"a":1}}`
	ciliumPair = `{"IP":"10.42.7.10","Mask":null,"HostIP":"192.0.2.7","ID":2752600,"Key":255,"Metadata":"",
 "K8sNamespace":"prod","K8sPodName":"vm-7","K8sServiceAccount":"default",
 "NamedPorts":[{"Name":"http","Port":8080,"Protocol":"TCP"}]}`
	ciliumLabels = "k8s:app=db;k8s:io.cilium.k8s.policy.cluster=vms;k8s:io.kubernetes.pod.namespace=prod;"
	ciliumConfig = `{"id":42,"capabilities":{"syncedCanaries":true,"cached":false,"maxConnectedClusters":255}}`
)

func TestDecodeCiliumNode(t *testing.T) {
	got, err := schema.DecodeNode(vms, "vm-7", []byte(ciliumNode))
	want := mesh.Node{
		Name: "vm-7", Cluster: vms, Key: pubKey, Port: mesh.WireGuardPort,
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("203.0.113.7")},
	}
	if diff := cmp.Diff(want, got, exact); err != nil || diff != "" {
		t.Errorf("DecodeNode = %v (-want +got):\n%s", err, diff)
	}
}

func TestEncodeNode(t *testing.T) {
	n := mesh.Node{
		Name: "web", Cluster: vms, Key: pubKey, Port: 51900, Server: true, Version: "1.0",
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		Direct:    []netip.Addr{netip.MustParseAddr("192.0.2.7")},
		Mesh4:     netip.MustParseAddr("10.210.0.7"), Mesh6: netip.MustParseAddr("fd00::7"),
	}
	got, err := schema.EncodeNode(n)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Name":"web","Cluster":"vms","ClusterID":42,` +
		`"IPAddresses":[{"Type":"InternalIP","IP":"192.0.2.7"},{"Type":"InternalIP","IP":"2001:db8::7"}],` +
		`"IPv4AllocCIDR":null,"IPv4SecondaryAllocCIDRs":null,"IPv6AllocCIDR":null,"IPv6SecondaryAllocCIDRs":null,` +
		`"IPv4HealthIP":"","IPv6HealthIP":"","IPv4IngressIP":"","IPv6IngressIP":"","Source":"kvstore","EncryptionKey":255,` +
		`"Labels":{},"Annotations":{},"WireguardPubKey":"AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","BootID":"",` +
		`"Plexus":{"Port":51900,"MeshIPv4":"10.210.0.7","MeshIPv6":"fd00::7","Server":true,"Version":"1.0","Direct":["192.0.2.7"]}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("EncodeNode (-want +got):\n%s", diff)
	}
	back, err := schema.DecodeNode(vms, "web", got)
	if diff := cmp.Diff(n, back, exact); err != nil || diff != "" {
		t.Errorf("and back = %v (-want +got):\n%s", err, diff)
	}
}

func TestDecodeCiliumEndpoint(t *testing.T) {
	want := mesh.Endpoint{
		Prefix: netip.MustParsePrefix("10.42.7.10/32"), Identity: 2752600, Host: netip.MustParseAddr("192.0.2.7"),
		Key: 255, Namespace: "prod", Name: "vm-7", ServiceAccount: "default",
		NamedPorts: []mesh.NamedPort{{Name: "http", Port: 8080, Protocol: "TCP"}},
	}
	got, err := schema.DecodeEndpoint(vms, "10.42.7.10", []byte(ciliumPair))
	if diff := cmp.Diff(want, got, exact); err != nil || diff != "" {
		t.Errorf("DecodeEndpoint = %v (-want +got):\n%s", err, diff)
	}
	prefix := `{"IP":"10.42.0.0","Mask":"//8AAA==","HostIP":"192.0.2.7","ID":1,"Key":0}`
	got, err = schema.DecodeEndpoint(vms, "10.42.0.0/16", []byte(prefix))
	want = mesh.Endpoint{Prefix: netip.MustParsePrefix("10.42.0.0/16"), Identity: identity.RemoteNode, Host: netip.MustParseAddr("192.0.2.7")}
	if diff := cmp.Diff(want, got, exact); err != nil || diff != "" {
		t.Errorf("DecodeEndpoint of a prefix = %v (-want +got):\n%s", err, diff)
	}
}

func TestEncodeEndpoint(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.210.0.7/32": `{"IP":"10.210.0.7","Mask":null,"HostIP":"192.0.2.7","ID":2752600,"Key":255,"Metadata":"","K8sNamespace":"default","K8sPodName":"web"}`,
		"10.42.0.0/16":  `{"IP":"10.42.0.0","Mask":"//8AAA==","HostIP":"192.0.2.7","ID":2752600,"Key":255,"Metadata":"","K8sNamespace":"default","K8sPodName":"web"}`,
	} {
		e := mesh.Endpoint{
			Prefix: netip.MustParsePrefix(prefix), Identity: 2752600, Host: netip.MustParseAddr("192.0.2.7"),
			Key: 255, Namespace: "default", Name: "web",
		}
		got, err := schema.EncodeEndpoint(e)
		if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
			t.Errorf("EncodeEndpoint(%s) = %v (-want +got):\n%s", prefix, err, diff)
		}
		back, err := schema.DecodeEndpoint(vms, schema.EndpointName(e.Prefix), got)
		if diff := cmp.Diff(e, back, exact); err != nil || diff != "" {
			t.Errorf("and back = %v (-want +got):\n%s", err, diff)
		}
	}
}

func TestIdentity(t *testing.T) {
	id, ls, err := schema.DecodeIdentity(vms, "2752600", []byte(ciliumLabels))
	if err != nil || id != 2752600 || string(schema.EncodeIdentity(ls)) != ciliumLabels {
		t.Errorf("DecodeIdentity = %d, %v, %v", id, ls, err)
	}
}

func TestClusterConfig(t *testing.T) {
	got, err := schema.DecodeClusterConfig("vms", []byte(ciliumConfig))
	if diff := cmp.Diff(schema.OwnClusterConfig(vms), got); err != nil || diff != "" {
		t.Errorf("DecodeClusterConfig = %v (-want +got):\n%s", err, diff)
	}
	raw, err := schema.EncodeClusterConfig(got)
	const want = `{"id":42,"capabilities":{"syncedCanaries":true,"maxConnectedClusters":255}}`
	if diff := cmp.Diff(want, string(raw)); err != nil || diff != "" {
		t.Errorf("EncodeClusterConfig = %v (-want +got):\n%s", err, diff)
	}
}

// TestRefuses holds one reason for each refusal; the error must name the key
// and the field.
func TestRefuses(t *testing.T) {
	node := func(old, new string) func() error {
		return func() error {
			_, err := schema.DecodeNode(vms, "vm-7", []byte(strings.ReplaceAll(ciliumNode, old, new)))
			return err
		}
	}
	pair := func(name, old, new string) func() error {
		return func() error {
			_, err := schema.DecodeEndpoint(vms, name, []byte(strings.ReplaceAll(ciliumPair, old, new)))
			return err
		}
	}
	ident := func(name, value string) func() error {
		return func() error { _, _, err := schema.DecodeIdentity(vms, name, []byte(value)); return err }
	}
	config := func(value string) func() error {
		return func() error { _, err := schema.DecodeClusterConfig("vms", []byte(value)); return err }
	}
	claim := func(value string) func() error {
		return func() error { _, err := schema.DecodeClaim("web", []byte(value)); return err }
	}
	token := func(value string) func() error {
		return func() error { _, err := schema.DecodeToken("t1", []byte(value)); return err }
	}
	const nodes, ips, ids = "nodes/v1/vms/vm-7", "ip/v1/default/", "identities/v1/id/"
	for _, tt := range []struct {
		name, key, field string
		decode           func() error
	}{
		{"node without name", nodes, "Name", node(`"vm-7"`, `""`)},
		{"node of another name", nodes, "Name", node(`"vm-7"`, `"vm-8"`)},
		{"node of another cluster", nodes, "Cluster", node(`"vms"`, `"k8s"`)},
		{"node of another cluster id", nodes, "ClusterID", node(`:42`, `:43`)},
		{"node with a broken address", nodes, "IPAddresses", node("192.0.2.7", "192.0.2.777")},
		{"node with a broken key", nodes, "WireguardPubKey", node("AQID", "AQI")},
		{"node that is no JSON", nodes, "", node("{", "")},
		{"endpoint under another key", ips, "IP", pair("10.42.7.11", "", "")},
		{"endpoint under a second spelling", ips, "key", pair("10.42.7.10/32", "", "")},
		{"endpoint with host bits", ips, "key", pair("10.42.7.10/24", "", "")},
		{"endpoint in IPv4-mapped form", ips, "key", pair("::ffff:10.42.7.10", "", "")},
		{"endpoint with a broken mask", ips, "Mask", pair("10.42.7.10", `"Mask":null`, `"Mask":"/wD/AA=="`)},
		{"endpoint with a mask of IPv6", ips, "Mask", pair("10.42.7.10", `"Mask":null`, `"Mask":"/////////////////////w=="`)},
		{"endpoint of another cluster's identity", ips, "ID", pair("10.42.7.10", "2752600", "65836")},
		{"endpoint behind nothing", ips, "HostIP", pair("10.42.7.10", "192.0.2.7", "gateway")},
		{"identity outside the range", ids, "key", ident("65836", ciliumLabels)},
		{"identity in a second spelling", ids, "key", ident("02752600", ciliumLabels)},
		{"identity without cluster", ids, identity.KeyCluster, ident("2752600", "k8s:app=db;")},
		{"identity of another cluster", ids, identity.KeyCluster, ident("2752600", "k8s:io.cilium.k8s.policy.cluster=other;")},
		{"identity by another source", ids, identity.KeyCluster, ident("2752600", "any:io.cilium.k8s.policy.cluster=vms;")},
		{"identity without labels", ids, "labels", ident("2752600", "")},
		{"cluster without id", "cluster-config/vms", "id", config(`{}`)},
		{"cluster that counts otherwise", "cluster-config/vms", "maxConnectedClusters", config(`{"id":1,"capabilities":{"maxConnectedClusters":511}}`)},
		{"cluster with an unknown mode", "cluster-config/vms", "endpointSlicesExportMode", config(`{"id":1,"capabilities":{"endpointSlicesExportMode":"x"}}`)},
		{"claim for another", "claims/web", "node", claim(`{"node":"db"}`)},
		{"claim of loopback", "claims/web", "addresses", claim(`{"node":"web","addresses":["127.0.0.1"]}`)},
		{"claim of a mapped loopback", "claims/web", "addresses", claim(`{"node":"web","addresses":["::ffff:127.0.0.1"]}`)},
		{"claim of no address", "claims/web", "addresses", claim(`{"node":"web","addresses":[""]}`)},
		{"claim of a broken key", "claims/web", "wireGuardKey", claim(`{"node":"web","wireGuardKey":"AAAA"}`)},
		{"token without hash", "tokens/t1", "hash", token(`{"id":"t1"}`)},
		{"token of another id", "tokens/t1", "id", token(`{"id":"t2"}`)},
		{"token with more uses left than given", "tokens/t1", "usesLeft", token(`{"id":"t1","uses":1,"usesLeft":2,"hash":"` + strings.Repeat("00", 32) + `"}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.decode()
			if err == nil || !strings.Contains(err.Error(), tt.key) || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("error = %v, want one that names %s and %s", err, tt.key, tt.field)
			}
		})
	}
}

// TestRecords encodes and decodes what is Plexus's own.
func TestRecords(t *testing.T) {
	host := schema.Host{
		Node: "web", Labels: map[string]string{"app": "web"}, Namespace: "default", Identity: 2752600,
		Mesh4: netip.MustParseAddr("10.210.0.7"), Mesh6: netip.MustParseAddr("fd00::7"),
		Advertise: []netip.Addr{netip.MustParseAddr("192.0.2.7")}, LastSeen: netip.MustParseAddr("192.0.2.7"),
		SeenAt: now, Key: pubKey, Serial: "0a", Ephemeral: true, Server: true, Enrolled: now, Token: "t1",
	}
	claim := mesh.Claim{Node: "web", Addresses: host.Advertise, Key: pubKey, Port: 51871, Version: "1"}
	token := schema.Token{
		ID: "t1", Hash: strings.Repeat("0a", 32), Created: now, Expires: now.Add(time.Hour), Uses: 2, UsesLeft: 1,
		Labels: host.Labels, Namespace: "default", Ephemeral: true, Server: true, Author: "root",
	}
	config := schema.MeshConfig{
		Cluster: vms, Pool4: netip.MustParsePrefix("10.210.0.0/16"), Pool6: netip.MustParsePrefix("fd00::/48"),
		Version: schema.Version, Created: now,
	}
	live := schema.Live{Node: "web", Started: now}
	revoked := schema.Revoked{Serial: "0a", Node: "web", Time: now, Expires: now, Author: "root", Reason: "stolen"}
	audit := schema.Audit{Time: now, Actor: "root", Action: "token.create", Object: "t1", Result: "ok"}

	roundTrip(t, host, schema.EncodeHost, func(b []byte) (schema.Host, error) { return schema.DecodeHost("web", b) })
	roundTrip(t, claim, schema.EncodeClaim, func(b []byte) (mesh.Claim, error) { return schema.DecodeClaim("web", b) })
	roundTrip(t, token, schema.EncodeToken, func(b []byte) (schema.Token, error) { return schema.DecodeToken("t1", b) })
	roundTrip(t, config, schema.EncodeMeshConfig, schema.DecodeMeshConfig)
	roundTrip(t, live, schema.EncodeLive, func(b []byte) (schema.Live, error) { return schema.DecodeLive("web", b) })
	roundTrip(t, revoked, schema.EncodeRevoked, func(b []byte) (schema.Revoked, error) { return schema.DecodeRevoked("0a", b) })
	roundTrip(t, audit, schema.EncodeAudit, func(b []byte) (schema.Audit, error) { return schema.DecodeAudit("x", b) })
}

func roundTrip[T any](t *testing.T, v T, encode func(T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	raw, err := encode(v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(raw)
	if diff := cmp.Diff(v, got, exact); err != nil || diff != "" {
		t.Errorf("%T: %v (-want +got):\n%s\nfrom %s", v, err, diff, raw)
	}
}

func TestKeys(t *testing.T) {
	own, cached := schema.Layout{Cluster: "vms"}, schema.Layout{Cluster: "vms", Cached: true}
	for got, want := range map[string]string{
		own.Node("web"):                                       "cilium/state/nodes/v1/vms/web",
		own.Prefix(schema.Services):                           "cilium/state/services/v1/vms/",
		own.Identity(2752600):                                 "cilium/state/identities/v1/id/2752600",
		own.Synced(schema.IPs):                                "cilium/synced/vms/cilium/state/ip/v1",
		own.Synced(schema.Identities):                         "cilium/synced/vms/cilium/state/identities/v1",
		cached.Synced(schema.IPs):                             "cilium/synced/vms/cilium/cache/ip/v1",
		cached.Prefix(schema.IPs):                             "cilium/cache/ip/v1/vms/",
		cached.Prefix(schema.Identities):                      "cilium/cache/identities/v1/vms/id/",
		schema.ClusterConfigKey("vms"):                        "cilium/cluster-config/vms",
		own.Endpoint(netip.MustParsePrefix("10.42.7.10/32")):  "cilium/state/ip/v1/default/10.42.7.10",
		own.Endpoint(netip.MustParsePrefix("10.42.0.0/16")):   "cilium/state/ip/v1/default/10.42.0.0/16",
		own.Endpoint(netip.MustParsePrefix("2001:db8::/128")): "cilium/state/ip/v1/default/2001:db8::",
		schema.PolicyRevisionKey:                              "plexus/v1/policies/.revision",
		schema.PolicyHistoryKey(7):                            "plexus/v1/policy-revisions/00000000000000000007",
		schema.AuditKey(now, "a"):                             "plexus/v1/audit/20260701T120000.000000000Z-a",
	} {
		if got != want {
			t.Errorf("key %s, want %s", got, want)
		}
	}
}

func TestTime(t *testing.T) {
	got, err := schema.DecodeTime("k", schema.EncodeTime(now))
	if err != nil || !got.Equal(now) {
		t.Errorf("DecodeTime = %v, %v", got, err)
	}
	if _, err := schema.DecodeTime("k", []byte("soon")); err == nil || !strings.Contains(err.Error(), "decode k") {
		t.Errorf("DecodeTime of nonsense = %v", err)
	}
}

var errKey = errors.New("the key inside is not the key outside")

// decoders are all of them, each with the name that it takes.
var decoders = []func(name string, value []byte) error{
	func(n string, v []byte) error {
		got, err := schema.DecodeNode(vms, n, v)
		return again(err, got.Name == n && got.Cluster == vms, got, schema.EncodeNode,
			func(b []byte) (mesh.Node, error) { return schema.DecodeNode(vms, n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeEndpoint(vms, n, v)
		return again(err, schema.EndpointName(got.Prefix) == n, got, schema.EncodeEndpoint,
			func(b []byte) (mesh.Endpoint, error) { return schema.DecodeEndpoint(vms, n, b) })
	},
	func(n string, v []byte) error {
		id, ls, err := schema.DecodeIdentity(vms, n, v)
		got, _ := ls.Get(identity.SourceK8s, identity.KeyCluster)
		if err == nil && (identity.Cluster(id) != vms.ID || got != vms.Name) {
			return errKey
		}
		return nil
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeClaim(n, v)
		return again(err, got.Node == n, got, schema.EncodeClaim,
			func(b []byte) (mesh.Claim, error) { return schema.DecodeClaim(n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeHost(n, v)
		return again(err, got.Node == n, got, schema.EncodeHost,
			func(b []byte) (schema.Host, error) { return schema.DecodeHost(n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeToken(n, v)
		return again(err, got.ID == n, got, schema.EncodeToken,
			func(b []byte) (schema.Token, error) { return schema.DecodeToken(n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeLive(n, v)
		return again(err, got.Node == n, got, schema.EncodeLive,
			func(b []byte) (schema.Live, error) { return schema.DecodeLive(n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodePolicy(n, v)
		return again(err, got.Name == n, got, schema.EncodePolicy,
			func(b []byte) (schema.Policy, error) { return schema.DecodePolicy(n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeRevoked(n, v)
		return again(err, got.Serial == n, got, schema.EncodeRevoked,
			func(b []byte) (schema.Revoked, error) { return schema.DecodeRevoked(n, b) })
	},
	func(_ string, v []byte) error {
		got, err := schema.DecodeMeshConfig(v)
		return again(err, true, got, schema.EncodeMeshConfig, schema.DecodeMeshConfig)
	},
	func(_ string, v []byte) error {
		got, err := decodeRevision(v)
		return again(err, true, got, schema.EncodePolicyRevision, decodeRevision)
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeClusterConfig(n, v)
		return again(err, got.ID > 0, got, schema.EncodeClusterConfig,
			func(b []byte) (schema.ClusterConfig, error) { return schema.DecodeClusterConfig(n, b) })
	},
	func(n string, v []byte) error {
		got, err := schema.DecodeAudit(n, v)
		return again(err, true, got, schema.EncodeAudit,
			func(b []byte) (schema.Audit, error) { return schema.DecodeAudit(n, b) })
	},
	func(n string, v []byte) error {
		_, err := schema.DecodeTime(n, v)
		_ = err // any text may come; it only must not break the reader
		return nil
	},
}

// again checks that what a decoder believed survives being written and read.
func again[T any](err error, keyed bool, got T, encode func(T) ([]byte, error), decode func([]byte) (T, error)) error {
	if err != nil {
		return nil
	}
	if !keyed {
		return errKey
	}
	raw, err := encode(got)
	if err != nil {
		return err
	}
	back, err := decode(raw)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(got, back, exact); diff != "" {
		return errors.New("written and read again: " + diff)
	}
	return nil
}

// FuzzDecode gives every decoder the same bytes.
func FuzzDecode(f *testing.F) {
	f.Add("vm-7", []byte(ciliumNode))
	f.Add("10.42.7.10", []byte(ciliumPair))
	f.Add("10.42.0.0/16", []byte(`{"IP":"10.42.0.0","Mask":"//8AAA==","ID":1}`))
	f.Add("2752600", []byte(ciliumLabels))
	f.Add("vms", []byte(ciliumConfig))
	f.Add("web", []byte(`{"node":"web","addresses":["192.0.2.7","::ffff:192.0.2.8"],"wireGuardKey":"`+base64.StdEncoding.EncodeToString(pubKey[:])+`"}`))
	f.Add("t1", []byte(`{"id":"t1","uses":1,"usesLeft":1,"hash":"`+strings.Repeat("0a", 32)+`","expires":"2026-07-01T12:00:00Z"}`))
	f.Add("", []byte(`{"cluster":{"name":"vms","id":42},"pool4":"10.0.0.0/16","pool6":"fd00::/48","version":1}`))
	f.Add("p", []byte(`{"name":"p","serial":"p","node":"p","identity":999,"document":"\u0000"}`))
	f.Add("", []byte("2026-07-01T12:00:00Z"))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		for i, decode := range decoders {
			if err := decode(name, value); err != nil {
				t.Errorf("decoder %d: %v", i, err)
			}
		}
	})
}
