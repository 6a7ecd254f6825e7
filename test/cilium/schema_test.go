package cilium

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/cilium/pkg/k8s/apis/cilium.io/client"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
)

// schema is that of one of Cilium's custom resources.
type schema struct {
	shape *structural.Structural
	check validation.SchemaCreateValidator
}

// schemas are those of the documents that Plexus reads too.
var schemas = map[string]func() (schema, error){
	"CiliumNetworkPolicy":            sync.OnceValues(func() (schema, error) { return newSchema(client.CNPCRDName) }),
	"CiliumClusterwideNetworkPolicy": sync.OnceValues(func() (schema, error) { return newSchema(client.CCNPCRDName) }),
	"CiliumCIDRGroup":                sync.OnceValues(func() (schema, error) { return newSchema(client.CCGCRDName) }),
}

func newSchema(name string) (schema, error) {
	crd := client.GetPregeneratedCRD(quiet, name)
	versions := crd.Spec.Versions
	i := slices.IndexFunc(versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Name == "v2" })
	if i < 0 {
		return schema{}, fmt.Errorf("%s has no version v2", name)
	}
	var props apiextensions.JSONSchemaProps
	err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(versions[i].Schema.OpenAPIV3Schema, &props, nil)
	if err != nil {
		return schema{}, err
	}
	shape, err := structural.NewStructural(&props)
	if err != nil {
		return schema{}, err
	}
	check, _, err := validation.NewSchemaValidator(&props)
	return schema{shape, check}, err
}

// admit does with a document what an API server does that validates strictly,
// as kubectl asks it to: unknown fields are refused, defaults filled in. The one
// rule that the schemas have in CEL, that there be spec or specs, Cilium's
// parser has too.
func admit(kind string, doc map[string]any) error {
	s, err := schemas[kind]()
	if err != nil {
		return err
	}
	unknown := pruning.PruneWithOptions(doc, s.shape, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return fmt.Errorf("unknown fields: %s", strings.Join(unknown, ", "))
	}
	defaulting.Default(doc, s.shape)
	return validation.ValidateCustomResource(nil, doc, s.check).ToAggregate()
}
