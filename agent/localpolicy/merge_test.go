package localpolicy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/policy"
)

// doc is a policy of that name; port makes versions of it differ.
func doc(name string, port int) string {
	return fmt.Sprintf(`apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: %s}
spec:
  nodeSelector: {}
  ingress: [{toPorts: [{ports: [{port: "%d", protocol: TCP}]}]}]
`, name, port)
}

const broken = "kind: CiliumClusterwideNetworkPolicy\nspec: [\n"

func docs(all ...string) string { return strings.Join(all, "---\n") }

// ids are the policies in force, with the port that tells their version.
func ids(s Set) []string {
	var out []string
	for _, p := range s.Policies {
		out = append(out, fmt.Sprintf("%s:%d", p.ID(), p.Rules[0].Clauses[0].Ports[0].First))
	}
	slices.Sort(out)
	return out
}

func problems(s Set) []string {
	var out []string
	for _, p := range s.Problems {
		out = append(out, fmt.Sprintf("%s kept=%v", p.Path, p.Kept))
	}
	return out
}

func TestMerge(t *testing.T) {
	unreadable := Content{Err: errors.New("input/output error")}
	text := func(s string) Content { return Content{Data: []byte(s)} }
	tests := []struct {
		name     string
		accepted map[string]string
		found    map[string]Content
		want     []string
		problems []string
	}{
		{"no files", nil, nil, nil, nil},
		{"new files", nil, map[string]Content{"a.yaml": text(docs(doc("x", 1), doc("y", 1))), "b.yaml": text(doc("z", 1))},
			[]string{"local:x:1", "local:y:1", "local:z:1"}, nil},
		{"a changed file", map[string]string{"a.yaml": doc("x", 1)}, map[string]Content{"a.yaml": text(doc("x", 2))},
			[]string{"local:x:2"}, nil},
		{"a removed file", map[string]string{"a.yaml": doc("x", 1), "b.yaml": doc("y", 1)}, map[string]Content{"b.yaml": text(doc("y", 1))},
			[]string{"local:y:1"}, nil},
		{"a broken file keeps what was accepted", map[string]string{"a.yaml": doc("x", 1)}, map[string]Content{"a.yaml": text(broken)},
			[]string{"local:x:1"}, []string{"/p/a.yaml kept=true"}},
		{"an empty file is broken", map[string]string{"a.yaml": doc("x", 1)}, map[string]Content{"a.yaml": text("")},
			[]string{"local:x:1"}, []string{"/p/a.yaml kept=true"}},
		{"an unreadable file keeps what was accepted", map[string]string{"a.yaml": doc("x", 1)}, map[string]Content{"a.yaml": unreadable},
			[]string{"local:x:1"}, []string{"/p/a.yaml kept=true"}},
		{"a file that was always broken", nil, map[string]Content{"a.yaml": text(docs(doc("x", 1), broken)), "b.yaml": text(doc("y", 1))},
			[]string{"local:y:1"}, []string{"/p/a.yaml kept=false"}},
		{"what was accepted is not understood any more", map[string]string{"a.yaml": broken}, map[string]Content{"a.yaml": text(broken)},
			nil, []string{"/p/a.yaml kept=false"}},
		{"two new files define the same", nil, map[string]Content{"a.yaml": text(doc("x", 1)), "b.yaml": text(docs(doc("x", 2), doc("y", 2)))},
			[]string{"local:x:1"}, []string{"/p/b.yaml kept=false"}},
		{"a new file defines what an accepted one does", map[string]string{"b.yaml": doc("x", 1)},
			map[string]Content{"a.yaml": text(doc("x", 2)), "b.yaml": text(doc("x", 1))},
			[]string{"local:x:1"}, []string{"/p/a.yaml kept=false"}},
		{"a policy moves to another file", map[string]string{"a.yaml": docs(doc("x", 1), doc("y", 1)), "b.yaml": doc("z", 1)},
			map[string]Content{"a.yaml": text(doc("y", 1)), "b.yaml": text(docs(doc("x", 1), doc("z", 1)))},
			[]string{"local:x:1", "local:y:1", "local:z:1"}, nil},
		{"two files change places", map[string]string{"a.yaml": doc("x", 1), "b.yaml": doc("y", 1)},
			map[string]Content{"a.yaml": text(doc("y", 2)), "b.yaml": text(doc("x", 2))},
			[]string{"local:x:2", "local:y:2"}, nil},
		{"one of two that change places is broken", map[string]string{"a.yaml": doc("x", 1), "b.yaml": doc("y", 1)},
			map[string]Content{"a.yaml": text(doc("y", 2)), "b.yaml": text(broken)},
			[]string{"local:x:1", "local:y:1"}, []string{"/p/a.yaml kept=true", "/p/b.yaml kept=true"}},
		{"a fallback clashes with a change", map[string]string{"a.yaml": doc("x", 1), "b.yaml": doc("y", 1), "c.yaml": doc("z", 1)},
			map[string]Content{"a.yaml": text(doc("y", 2)), "b.yaml": text(doc("z", 2)), "c.yaml": text(doc("y", 3))},
			[]string{"local:x:1", "local:y:1", "local:z:1"}, []string{"/p/a.yaml kept=true", "/p/b.yaml kept=true", "/p/c.yaml kept=true"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			accepted := make(map[string][]byte)
			for name, data := range tt.accepted {
				accepted[name] = []byte(data)
			}
			got := Merge("/p", accepted, tt.found)
			if diff := cmp.Diff(tt.want, ids(got)); diff != "" {
				t.Errorf("policies in force: want -, got +:\n%s", diff)
			}
			if diff := cmp.Diff(tt.problems, problems(got)); diff != "" {
				t.Errorf("problems: want -, got +:\n%s", diff)
			}
			if err := policy.Duplicates(got.Policies); err != nil {
				t.Errorf("two in force have one name: %v", err)
			}
			again := Merge("/p", got.Accepted, tt.found)
			if !maps.EqualFunc(got.Accepted, again.Accepted, slices.Equal) || !slices.Equal(ids(got), ids(again)) {
				t.Errorf("read again without a change: %v becomes %v", ids(got), ids(again))
			}
		})
	}
}

func TestAProblemSaysWhereAndWhatIsInForce(t *testing.T) {
	s := Merge("/p", nil, map[string]Content{"a.yaml": {Data: []byte(strings.Replace(doc("x", 1), "toPorts", "toPort", 1) + "nonsense: 1\n")}})
	if len(s.Problems) != 1 {
		t.Fatalf("problems: %v", s.Problems)
	}
	text := s.Problems[0].Error()
	for _, want := range []string{"/p/a.yaml:6", "toPort", "1 more", "nothing of it is in force", "correct the file"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, "\n") {
		t.Errorf("%q is not one line", text)
	}
}
