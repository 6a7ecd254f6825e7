package policy

import (
	"strings"
	"testing"
)

// refusedICMPs are faults of icmps.
var refusedICMPs = []refusal{
	{inEgress("icmps: []"), `f.yaml:7: spec.egress[0].icmps: is an empty list: leave it out for every protocol, or name types`},
	{inEgress("icmps: [{}]"), `f.yaml:7: spec.egress[0].icmps[0]: names no type: write fields, or leave icmps out for every protocol`},
	{inFields(""), `f.yaml:7: spec.egress[0].icmps[0].fields: has 0 types: write 1 to 40, and further ones as another item of icmps`},
	{inFields(strings.Repeat("{type: 8}, ", 41)), `f.yaml:7: spec.egress[0].icmps[0].fields: has 41 types: write 1 to 40, and further ones as another item of icmps`},
	{inFields("{}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].type: is missing: write a number from 0 to 255, or a name such as EchoRequest`},
	{inFields("{type: 256}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].type: "256" is no ICMP type of IPv4: write a number from 0 to 255, or one of Cilium's names, such as EchoRequest`},
	{inFields("{type: PacketTooBig}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].type: "PacketTooBig" is no ICMP type of IPv4: write a number from 0 to 255, or one of Cilium's names, such as EchoRequest`},
	{inFields("{type: Redirect, family: IPv6}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].type: "Redirect" is no ICMP type of IPv6: write a number from 0 to 255, or one of Cilium's names, such as EchoRequest`},
	{inFields("{type: 07}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].type: "07" is no ICMP type of IPv4: write a number from 0 to 255, or one of Cilium's names, such as EchoRequest`},
	{inFields("{type: true}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].type: want a number from 0 to 255 or a name, not "true"`},
	{inFields("{type: 8, family: ipv4}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].family: "ipv4" is no family: write IPv4 or IPv6`},
	{inFields("{type: 8, code: 0}"), `f.yaml:7: spec.egress[0].icmps[0].fields[0].code: unknown field "code": use family, type`},
	{inEgress(`{toPorts: [{ports: [{port: "1"}]}], icmps: [{fields: [{type: 8}]}]}`), `f.yaml:7: spec.egress[0]: toPorts and icmps stand in one entry, which Cilium refuses: write an entry for each`},
}

func inFields(s string) string { return inEgress("icmps: [{fields: [" + s + "]}]") }

func TestICMP(t *testing.T) {
	tell(t, []story{
		{"types by number and by name, of one family each", clusterwide("a", toDB+"ingress: [{icmps: [{fields: [{type: 8}, {type: PacketTooBig, family: IPv6}]}, {fields: [{type: TimestampReply, family: IPv4}]}]}]"), `
			db <- web ICMP:8 allow a ingress[0]
			db <- 192.0.2.1 ICMP:8 allow
			db <- web ICMP:14 allow
			db <- web ICMP:0 deny -
			db <- web ICMP:9 deny
			db <- web ICMPv6:2 allow
			db <- web ICMPv6:8 deny
			db <- web 2048/TCP deny
			db <- web 8/TCP deny`},
		{"deny of a type leaves the others of an allow", clusterwide("a", toDB+"ingressDeny: [{icmps: [{fields: [{type: Redirect}]}]}], ingress: [{fromEndpoints: [{}]}]"), `
			db <- web ICMP:5 deny a ingressDeny[0]
			db <- web ICMP:4 allow a ingress[0]
			db <- web ICMP:6 allow
			db <- web ICMPv6:5 allow
			db <- web 22/TCP allow`},
	})
}

func TestOtherProtocols(t *testing.T) {
	tell(t, []story{
		{"a protocol without ports as a whole", clusterwide("a", toDB+`ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{protocol: VRRP}, {port: "0", protocol: gre}]}]}]`), `
			db <- web VRRP allow a ingress[0]
			db <- web GRE allow
			db <- web ESP deny
			db <- web 22/TCP deny
			db <- admin VRRP allow
			db <- 192.0.2.1 VRRP deny`},
		{"every port is one of TCP, UDP and SCTP alone", clusterwide("a", toDB+`ingress: [{toPorts: [{ports: [{port: "0"}]}]}]`), `
			db <- web 1/SCTP allow
			db <- web 65535/UDP allow
			db <- web GRE deny -
			db <- web ICMP:8 deny -`},
		{"a port means TCP, UDP and SCTP alone", clusterwide("a", toDB+`ingress: [{toPorts: [{ports: [{port: "1", endPort: 65535}]}]}]`), `
			db <- web 1/SCTP allow
			db <- web GRE deny
			db <- web ICMP:8 deny`},
	})
}
