package cilium

import (
	"iter"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// words are what a mutation writes where a text or number stood.
var words = []yaml.Node{
	text("bogus"), text(""), text("A_b"), text("07"), text("65536"), text("10.0.0.1"), text(strings.Repeat("x", 64)),
	scalar("!!int", "7"), scalar("!!int", "-1"), scalar("!!bool", "true"), scalar("!!null", "null"),
	{Kind: yaml.MappingNode, Tag: "!!map"}, {Kind: yaml.SequenceNode, Tag: "!!seq"},
}

func scalar(tag, value string) yaml.Node {
	return yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func text(s string) yaml.Node {
	n := scalar("!!str", s)
	n.Style = yaml.DoubleQuotedStyle
	return n
}

// mutations yields documents that differ from doc in one place, each with what
// was changed.
func mutations(t *testing.T, doc string) iter.Seq2[string, string] {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(doc), &root); err != nil {
		t.Fatal(err)
	}
	return func(yield func(string, string) bool) {
		m := mutator{root: &root, yield: yield}
		m.visit(root.Content[0], "")
	}
}

type mutator struct {
	root  *yaml.Node
	yield func(what, doc string) bool
	done  bool

	onlyLess bool // only leave parts out
}

// visit changes everything below n, which is put back after each change.
func (m *mutator) visit(n *yaml.Node, path string) {
	step := 1
	if n.Kind == yaml.MappingNode {
		step = 2
	}
	for i := 0; i < len(n.Content) && !m.done; i += step {
		at := path + "[" + strconv.Itoa(i) + "]"
		if step == 2 {
			at = path + "." + n.Content[i].Value
			for _, w := range words {
				m.replace(n.Content[i], w, at+" is named")
			}
		}
		value := n.Content[i+step-1]
		for _, w := range words {
			m.replace(value, w, at+" is")
		}
		m.without(n, i, step, at)
		m.visit(value, at)
	}
}

func (m *mutator) replace(n *yaml.Node, by yaml.Node, what string) {
	if m.onlyLess {
		return
	}
	was := *n
	*n = by
	m.emit(what + " " + describe(by))
	*n = was
}

func (m *mutator) without(n *yaml.Node, i, count int, at string) {
	was := n.Content
	n.Content = append(append([]*yaml.Node{}, was[:i]...), was[i+count:]...)
	m.emit(at + " is left out")
	n.Content = was
}

func (m *mutator) emit(what string) {
	out, err := yaml.Marshal(m.root)
	if err != nil {
		panic(err) // a tree that was read is written again
	}
	m.done = m.done || !m.yield(what, string(out))
}

func describe(n yaml.Node) string {
	return strings.TrimPrefix(n.Tag, "!!") + " " + strconv.Quote(n.Value)
}

// smaller returns doc without each of its parts in turn.
func smaller(doc string) []string {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(doc), &root); err != nil {
		return nil
	}
	var out []string
	m := mutator{root: &root, yield: func(_, doc string) bool { out = append(out, doc); return true }, onlyLess: true}
	m.visit(root.Content[0], "")
	return out
}
