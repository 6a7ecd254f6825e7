package registry

import (
	"errors"
	"testing"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/kvstore/schema"
)

const (
	office = `apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: office}
spec: {externalCIDRs: [192.0.2.0/24]}
`
	fromOffice = `apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: ssh}
spec:
  endpointSelector: {}
  ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}]
`
	kubernetes = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: ssh, namespace: prod}
spec:
  podSelector: {}
  ingress: [{}]
`
)

// Documents of all kinds are stored under names of their own, and a CIDR group
// stays while a policy names it.
func TestKindsOfDocuments(t *testing.T) {
	f := newMesh(t, "10.210.0.0/16")
	if _, what := f.apply(office, fromOffice, kubernetes); what != "cidrgroup:office created, ssh created, networkpolicy:prod/ssh created" {
		t.Errorf("apply: %s", what)
	}
	if p, err := f.Policy(t.Context(), "cidrgroup:office"); err != nil || p.Source != office {
		t.Errorf("group: %+v, %v", p, err)
	}
	before := f.content()
	_, _, err := f.DeletePolicy(t.Context(), me, "cidrgroup:office")
	f.refused(err, "office", "policy ssh")
	_, _, err = f.ApplyPolicies(t.Context(), ApplyOptions{Delete: []string{"cidrgroup:office"}}, f.parsed(document("ssh2", "web")))
	f.refused(err, "policy ssh")
	f.unchanged(before)

	f.remove("networkpolicy:prod/ssh")
	o := me
	o.Delete = []string{"cidrgroup:office"}
	_, _, err = f.ApplyPolicies(t.Context(), o, f.parsed(document("ssh", "web"))) // which names it no more
	f.must(err)
	f.stands(map[string]string{"ssh": document("ssh", "web")})
	_, err = f.RollbackPolicies(t.Context(), RollbackOptions{})
	f.must(err)
	f.stands(map[string]string{"ssh": fromOffice, "cidrgroup:office": office})
	_, _, err = f.ApplyPolicies(t.Context(), ApplyOptions{Delete: []string{"ssh", "cidrgroup:office"}}, nil)
	f.must(err)
	if all, err := f.History(t.Context()); err != nil || all[0].Action != schema.ActionDelete || len(f.documents()) != 0 {
		t.Errorf("history %+v, %v", all, err)
	}
	if _, _, err := f.DeletePolicy(t.Context(), me, "cidrgroup:office"); !errors.Is(err, code(control.CodeNotFound)) {
		t.Errorf("again: %v", err)
	}
}
