package cilium

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cilium/cilium/pkg/k8s"
	v2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	networkingv1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	"github.com/cilium/cilium/pkg/policy/utils"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	plexus "github.com/plexusmesh/plexus/policy"
)

// localCluster is the name of the subject's own mesh, and otherCluster that of
// one that federates with it.
const (
	localCluster = "mesh"
	otherCluster = "other"
)

var quiet = slog.New(slog.DiscardHandler)

// configure gives Cilium, which keeps its options in a global, those of an agent
// with every kind of policy that a host can enforce switched on.
var configure = sync.OnceFunc(func() {
	o := option.Config
	o.EnableIPv4, o.EnableIPv6 = true, true
	o.ClusterID, o.ClusterName = 1, localCluster
	o.EnablePolicy = option.DefaultEnforcement
	o.EnableNonDefaultDenyPolicies = true
	o.EnableICMPRules = true
	o.EnableExtendedIPProtocols = true
	o.EnableNodeSelectorLabels = true
	o.EnableL7Proxy = true
	api.InitEntities(localCluster)
})

// document is a document as Cilium reads it.
type document struct {
	kind            plexus.Kind
	namespace, name string

	entries types.PolicyEntries // of a policy
	group   *v2.CiliumCIDRGroup
}

// read does what an API server and then an agent do with a document: it is held
// against the schema, and parsed. cluster is what selectors of peers are
// confined to, "" for every cluster.
func read(text, cluster string) (document, error) {
	configure()
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return document{}, err
	}
	var head struct {
		APIVersion, Kind string
		Metadata         json.RawMessage
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return document{}, err
	}
	d := document{kind: plexus.Kind(head.Kind)}
	if err := d.identify(head.Metadata); err != nil {
		return document{}, err
	}
	switch head.APIVersion + " " + head.Kind {
	case "cilium.io/v2 CiliumNetworkPolicy", "cilium.io/v2 CiliumClusterwideNetworkPolicy":
		d.entries, err = readCilium(raw, d, cluster)
	case "cilium.io/v2 CiliumCIDRGroup":
		d.group = new(v2.CiliumCIDRGroup)
		err = admitted(raw, d.kind, d.group)
	case "networking.k8s.io/v1 NetworkPolicy":
		d.entries, err = readKubernetes(raw, cluster)
	default:
		err = fmt.Errorf("kind %q of %q is not read", head.Kind, head.APIVersion)
	}
	return d, err
}

// identify takes the name and namespace out of metadata, with an API server's checks.
func (d *document) identify(metadata json.RawMessage) error {
	var meta metav1.ObjectMeta
	if err := strictly(metadata, &meta); err != nil {
		return err
	}
	namespaced := d.kind == plexus.Namespaced || d.kind == plexus.Kubernetes
	if namespaced && meta.Namespace == "" {
		meta.Namespace = "default" // as kubectl fills in
	}
	d.namespace, d.name = meta.Namespace, meta.Name
	return apivalidation.ValidateObjectMeta(&meta, namespaced, apivalidation.NameIsDNSSubdomain, nil).ToAggregate()
}

func strictly(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func readCilium(raw []byte, d document, cluster string) (types.PolicyEntries, error) {
	var cnp v2.CiliumNetworkPolicy
	if err := admitted(raw, d.kind, &cnp); err != nil {
		return nil, err
	}
	cnp.Namespace = d.namespace
	rules, err := cnp.Parse(quiet, cluster) // one without a namespace as clusterwide
	if err != nil {
		return nil, err
	}
	if len(rules) == 0 {
		return nil, errors.New("policy has no rule")
	}
	return utils.RulesToPolicyEntries(rules), nil
}

// admitted reads a document into a struct after the API server's checks.
func admitted(raw []byte, kind plexus.Kind, into any) error {
	var doc map[string]any
	if err := yaml.Unmarshal(raw, &doc); err != nil { // with whole numbers as int64
		return err
	}
	if err := admit(string(kind), doc); err != nil {
		return err
	}
	filled, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return json.Unmarshal(filled, into)
}

// readKubernetes reads a NetworkPolicy without an API server's checks but for
// the names of fields.
func readKubernetes(raw []byte, cluster string) (types.PolicyEntries, error) {
	var np networkingv1.NetworkPolicy
	if err := strictly(raw, &np); err != nil {
		return nil, err
	}
	return k8s.ParseNetworkPolicy(quiet, cluster, &np)
}
