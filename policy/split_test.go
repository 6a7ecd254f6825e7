package policy

import (
	"fmt"
	"strings"
	"testing"
)

// TestParseLosesNoDocument writes a policy where a reader who counts lines by \n
// alone sees a comment, or nothing that a marker leaves.
func TestParseLosesNoDocument(t *testing.T) {
	second := "\n" + clusterwide("b", toDB+"ingress: [{}]")
	first := []string{"apiVersion: cilium.io/v2", "kind: CiliumClusterwideNetworkPolicy", "metadata: {name: a}", "spec: {" + toDB + "ingress: [{}]}"}
	for _, br := range []string{"\r", "\u0085", "\u2028", "\u2029"} {
		t.Run(fmt.Sprintf("%q", br), func(t *testing.T) {
			file := "# who may come in" + br + strings.Join(first, br) + second
			if ps, err := Parse("f.yaml", []byte(file)); err != nil || len(ps) != 2 {
				t.Errorf("got %d policies, error %v; want both", len(ps), err)
			}
		})
	}
	t.Run("behind the end of a document", func(t *testing.T) {
		file := clusterwide("b", toDB+"ingress: [{}]") + "\n... {" + strings.Join(first, ", ") + "}\n"
		if ps, err := Parse("f.yaml", []byte(file)); err == nil {
			t.Errorf("got %d policies and no error; want the second to be refused, as YAML does", len(ps))
		}
	})
}
