package observe

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// directory is a Resolver over fixed tables.
type directory struct{}

const (
	webID mesh.Identity = 65792
	dbID  mesh.Identity = 65793
)

func (directory) Labels(id mesh.Identity) []string {
	return map[mesh.Identity][]string{
		1:     {"reserved:host"},
		2:     {"reserved:world"},
		webID: {"k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"},
		dbID:  {"k8s:app=db", "k8s:tier=data"},
	}[id]
}

func (directory) Address(a netip.Addr) (mesh.Identity, string) {
	switch a.String() {
	case "10.210.0.1":
		return webID, "alpha"
	case "10.210.0.2":
		return dbID, "beta"
	case "10.99.0.2":
		return 0, "west/beta"
	}
	return 0, ""
}

func (directory) Rule(id policy.RuleID) string {
	if id == 7 {
		return "db ingress[0]"
	}
	return ""
}

func (directory) Log(id policy.RuleID) string {
	if id == 9 {
		return "audited"
	}
	return ""
}

// Staged knows of the flows that rule 9 decided: staged rules drop them.
func (directory) Staged(e datapath.Event) (allowed bool, rule string, ok bool) {
	return false, "db ingressDeny[0]", e.Rule == 9
}

func (directory) LinkName(i uint32) string {
	if i == 3 {
		return "plexus0"
	}
	return ""
}

var start = time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)

func TestTranslate(t *testing.T) {
	web, db := Endpoint{IP: "10.210.0.1", Port: 40000, Identity: 65792, Node: "alpha", Labels: directory{}.Labels(webID)},
		Endpoint{IP: "10.210.0.2", Port: 5432, Identity: 65793, Node: "beta", Labels: directory{}.Labels(dbID)}
	icmpType := uint8(8)
	withoutPort := func(e Endpoint) Endpoint { e.Port = 0; return e }
	tests := []struct {
		name  string
		event datapath.Event
		want  Flow
	}{
		{
			"an allowed SYN that comes in over the tunnel",
			datapath.Event{Time: start, Direction: policy.Ingress, Protocol: 6, TCPFlags: 0x02, Remote: dbID, Rule: 7, Link: 3, Tunnel: true, Length: 60,
				Src: netip.MustParseAddrPort("10.210.0.2:5432"), Dst: netip.MustParseAddrPort("10.210.0.1:40000")},
			Flow{Time: start, Node: "alpha", Verdict: Forwarded, Direction: "ingress", Source: db, Destination: web, Protocol: "TCP",
				TCPFlags: []string{"SYN"}, Rule: "db ingress[0]", Interface: "plexus0", Encrypted: true, Bytes: 60},
		},
		{
			"a reply to it goes out: the local side is the source",
			datapath.Event{Direction: policy.Ingress, Reply: true, Protocol: 6, TCPFlags: 0x12, Remote: dbID, Link: 9,
				Src: netip.MustParseAddrPort("10.210.0.1:40000"), Dst: netip.MustParseAddrPort("10.210.0.2:5432")},
			Flow{Node: "alpha", Verdict: Forwarded, Direction: "ingress", Reply: true, Source: web, Destination: db, Protocol: "TCP",
				TCPFlags: []string{"SYN", "ACK"}, Interface: "if9"},
		},
		{
			"a dropped datagram to an address that nobody knows",
			datapath.Event{Direction: policy.Egress, Dropped: true, Reason: "denied by policy", Protocol: 17, Remote: 2, Rule: 8, Link: 9,
				Src: netip.MustParseAddrPort("198.51.100.1:53"), Dst: netip.MustParseAddrPort("[2001:db8::1]:53")},
			Flow{Node: "alpha", Verdict: Dropped, DropReason: "denied by policy", Direction: "egress", Protocol: "UDP",
				Source:      Endpoint{IP: "198.51.100.1", Port: 53, Identity: 1, Labels: []string{"reserved:host"}, Node: "alpha"},
				Destination: Endpoint{IP: "2001:db8::1", Port: 53, Identity: 2, Labels: []string{"reserved:world"}},
				Rule:        "unknown rule 00000008", Interface: "if9"},
		},
		{
			"an ICMP event has a type and no ports",
			datapath.Event{Direction: policy.Egress, Protocol: 1, ICMPType: 8, Remote: dbID, Link: 3,
				Src: netip.MustParseAddrPort("10.210.0.1:77"), Dst: netip.MustParseAddrPort("10.210.0.2:8")},
			Flow{Node: "alpha", Verdict: Forwarded, Direction: "egress", Protocol: "ICMP", ICMPType: &icmpType,
				Source: withoutPort(web), Destination: withoutPort(db), Interface: "plexus0"},
		},
		{
			"a rule with a log, and staged rules that would decide otherwise",
			datapath.Event{Direction: policy.Ingress, Protocol: 6, TCPFlags: 0x02, Remote: dbID, Rule: 9, Link: 3,
				Src: netip.MustParseAddrPort("10.210.0.2:5432"), Dst: netip.MustParseAddrPort("10.210.0.1:40000")},
			Flow{Node: "alpha", Verdict: Forwarded, Direction: "ingress", Source: db, Destination: web, Protocol: "TCP",
				TCPFlags: []string{"SYN"}, Rule: "unknown rule 00000009", Interface: "plexus0",
				PolicyLog: "audited", StagedVerdict: Dropped, StagedRule: "db ingressDeny[0]"},
		},
		{
			"an unknown identity has an empty list of labels",
			datapath.Event{Direction: policy.Ingress, Protocol: 47, Remote: 99999, Link: 3,
				Src: netip.MustParseAddrPort("10.99.0.2:0"), Dst: netip.MustParseAddrPort("10.210.0.1:0")},
			Flow{Node: "alpha", Verdict: Forwarded, Direction: "ingress", Protocol: "GRE",
				Source: Endpoint{IP: "10.99.0.2", Identity: 99999, Labels: []string{}, Node: "west/beta"}, Destination: withoutPort(web), Interface: "plexus0"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, translate(tt.event, "alpha", directory{})); diff != "" {
				t.Errorf("flow (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFilter(t *testing.T) {
	f := Flow{
		Time: start, Verdict: Dropped, StagedVerdict: Forwarded, Protocol: "TCP",
		Source:      Endpoint{IP: "10.210.0.1", Port: 40000, Labels: directory{}.Labels(webID), Node: "alpha"},
		Destination: Endpoint{IP: "fd00::2", Port: 5432, Labels: []string{"reserved:world"}, Node: "west/beta"},
	}
	tests := []struct {
		query Query
		want  bool
	}{
		{Query{}, true},
		{Query{Verdict: "dropped"}, true},
		{Query{Verdict: Forwarded}, false},
		{Query{StagedVerdict: "forwarded"}, true},
		{Query{StagedVerdict: Dropped}, false},
		{Query{Protocol: "tcp"}, true},
		{Query{Protocol: "ANY"}, true},
		{Query{Protocol: "UDP"}, false},
		{Query{Port: 5432}, true},
		{Query{Port: 40000}, false},
		{Query{Since: start}, true},
		{Query{Since: start.Add(1)}, false},
		{Query{From: "label=app=web"}, true},
		{Query{From: "label=k8s:app=web,io.kubernetes.pod.namespace=default"}, true},
		{Query{From: "label=reserved:app=web"}, false},
		{Query{From: "label=app=web,tier=x"}, false},
		{Query{From: "label=app=db"}, false},
		{Query{From: "label=app!=db,!tier,app"}, true},
		{Query{From: "label=!app"}, false},
		{Query{From: "10.210.0.1"}, true},
		{Query{From: "::ffff:10.210.0.1"}, true},
		{Query{From: "10.210.0.2"}, false},
		{Query{From: "10.210.9.9/16"}, true},
		{Query{From: "10.0.0.0/16"}, false},
		{Query{From: "alpha"}, true},
		{Query{From: "alph"}, false},
		{Query{From: "west/alpha"}, false},
		{Query{To: "fd00::/8"}, true},
		{Query{To: "label=reserved:world"}, true},
		{Query{To: "beta"}, true},
		{Query{To: "west/beta"}, true},
		{Query{To: "east/beta"}, false},
		{Query{From: "alpha", To: "alpha"}, false},
	}
	for _, tt := range tests {
		accepts, err := tt.query.compile()
		if err != nil {
			t.Errorf("compile %+v: %v", tt.query, err)
			continue
		}
		if got := accepts(&f); got != tt.want {
			t.Errorf("%+v accepts the flow: %v, want %v", tt.query, got, tt.want)
		}
	}
	unlabelled, _ := Query{From: "label=!app"}.compile()
	if !unlabelled(&Flow{}) {
		t.Error("label=!app does not accept an endpoint without labels")
	}
}

func TestValidate(t *testing.T) {
	_, unknown := policy.ParseProtocol("tpc") // policy lists those that there are
	tests := []struct {
		query Query
		want  string
	}{
		{Query{Verdict: "maybe"}, `verdict "maybe" is unknown: use FORWARDED or DROPPED`},
		{Query{StagedVerdict: "maybe"}, `staged: verdict "maybe" is unknown: use FORWARDED or DROPPED`},
		{Query{Protocol: "tpc"}, unknown.Error()},
		{Query{From: "10.0.0.300"}, `from: selector "10.0.0.300" is neither an address nor a prefix`},
		{Query{To: "fd00::/129"}, `to: selector "fd00::/129" is neither an address nor a prefix`},
		{Query{From: "label="}, `from: selector "label=": term "" is malformed: want key=value, key!=value, key or !key`},
		{Query{From: "label=a=b,,c"}, `from: selector "label=a=b,,c": term "" is malformed: want key=value, key!=value, key or !key`},
		{Query{From: "Web_1"}, `from: selector "Web_1" is malformed: want label=key=value,…, an address, a prefix or the name of a host`},
		{Query{From: "a/b/c"}, `from: selector "a/b/c" is malformed: want label=key=value,…, an address, a prefix or the name of a host`},
		{Query{Verdict: "x", To: "::g"}, "verdict \"x\" is unknown: use FORWARDED or DROPPED\nto: selector \"::g\" is neither an address nor a prefix"},
	}
	for _, tt := range tests {
		if err := tt.query.Validate(); err == nil || err.Error() != tt.want {
			t.Errorf("validate %+v: %v, want %s", tt.query, err, tt.want)
		}
	}
}

func FuzzSelector(f *testing.F) {
	for _, s := range []string{"label=app=web,tier!=x,!a,b", "10.0.0.0/8", "fd00::1%eth0", "west/beta", "label==", "a:b", "", "1.2.3.4/"} {
		f.Add(s)
	}
	e := Endpoint{IP: "10.0.0.1", Labels: []string{"k8s:app=web", "reserved:world"}, Node: "alpha"}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseSelector(s)
		if (m == nil) == (err == nil) {
			t.Fatalf("selector %q: match %v with error %v", s, m != nil, err)
		}
		if err == nil {
			m(e)
			m(Endpoint{})
		}
	})
}
