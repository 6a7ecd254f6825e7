package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/plexusmesh/plexus/policy"
)

// MaxFileSize is the number of bytes that Parse accepts at most: some 50,000 tests.
const MaxFileSize = 16 << 20

// maxProblems is how many problems Parse reports before it only counts.
const maxProblems = 100

// decoder reads a document strictly and gathers its problems.
type decoder struct {
	file     string
	problems []*policy.Problem
}

// reader reads the value of a field that stands at path.
type reader func(n *yaml.Node, path string)

func (d *decoder) refuse(line int, path, format string, args ...any) {
	d.problems = append(d.problems, &policy.Problem{File: d.file, Line: line, Path: path, Text: fmt.Sprintf(format, args...)})
}

// err returns all problems in order of lines as one error, or nil.
func (d *decoder) err() error {
	slices.SortStableFunc(d.problems, func(a, b *policy.Problem) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, p := range d.problems {
		if i == maxProblems {
			p = &policy.Problem{File: d.file, Text: fmt.Sprintf("%d more problems are not shown", len(d.problems)-i)}
			return errors.Join(append(errs, p)...)
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// yamlLine finds the line that a message of the YAML parser speaks of.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// root parses the one document of data, or reports why it cannot.
func (d *decoder) root(data []byte) *yaml.Node {
	if len(data) > MaxFileSize || !utf8.Valid(data) {
		d.refuse(0, "", "want text in UTF-8 of at most %d bytes: split the tests into several files", MaxFileSize)
		return nil
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.refuse(0, "", "holds no test: write tests, a list")
		return nil
	case err != nil:
		m := yamlLine.FindStringSubmatch(err.Error())
		line, _ := strconv.Atoi(m[1]) // 0, the whole file, where the parser names none
		d.refuse(line, "", "not well-formed YAML: %s", strings.TrimPrefix(err.Error(), m[0]))
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.refuse(0, "", "holds several documents: write one, with all tests in one list")
		return nil
	}
	return doc.Content[0]
}

// plain reports whether n is written out where it stands.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
		d.refuse(n.Line, path, "YAML anchors, aliases and tags are not accepted: write the value out where it is used")
		return false
	}
	return true
}

// object reads a mapping field by field.
func (d *decoder) object(n *yaml.Node, path string, fields map[string]reader) {
	for _, kv := range d.pairs(n, path) {
		name, at := kv[0].Value, join(path, kv[0].Value)
		read, known := fields[name]
		switch {
		case !known:
			d.refuse(kv[0].Line, at, "unknown field: use %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		case kv[1].ShortTag() == "!!null":
			d.refuse(kv[0].Line, at, "field has no value: give it one, or leave the field out")
		default:
			read(kv[1], at)
		}
	}
}

// pairs returns keys and values of a mapping.
func (d *decoder) pairs(n *yaml.Node, path string) [][2]*yaml.Node {
	if !d.plain(n, path) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		d.refuse(n.Line, path, "want a mapping of fields, not %s", describe(n))
		return nil
	}
	var out [][2]*yaml.Node
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch _, ok := d.text(key, path); {
		case !ok:
		case seen[key.Value]:
			d.refuse(key.Line, join(path, key.Value), "is given twice: keep one")
		default:
			out = append(out, [2]*yaml.Node{key, n.Content[i+1]})
		}
		seen[key.Value] = true
	}
	return out
}

// list reads a sequence item by item.
func (d *decoder) list(n *yaml.Node, path string, item reader) {
	switch {
	case !d.plain(n, path):
	case n.Kind != yaml.SequenceNode:
		d.refuse(n.Line, path, "want a list, not %s", describe(n))
	default:
		for i, c := range n.Content {
			item(c, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// text reads a string. ok is false where a problem was reported.
func (d *decoder) text(n *yaml.Node, path string) (s string, ok bool) {
	switch {
	case !d.plain(n, path):
	case n.Kind != yaml.ScalarNode:
		d.refuse(n.Line, path, "want text, not %s", describe(n))
	case n.ShortTag() != "!!str":
		d.refuse(n.Line, path, "want text: write it in quotes, %q", n.Value)
	default:
		return n.Value, true
	}
	return "", false
}

// truth reads true or false.
func (d *decoder) truth(into *bool) reader {
	return func(n *yaml.Node, path string) {
		v, err := strconv.ParseBool(n.Value)
		if !d.plain(n, path) || n.ShortTag() != "!!bool" || err != nil {
			d.refuse(n.Line, path, "want true or false, not %s", describe(n))
			return
		}
		*into = v
	}
}

// parsed returns a reader of text that parse understands.
func parsed[T any](d *decoder, into *T, parse func(string) (T, error)) reader {
	return func(n *yaml.Node, path string) {
		s, ok := d.text(n, path)
		if !ok {
			return
		}
		v, err := parse(s)
		if err != nil {
			d.refuse(n.Line, path, "%s", err)
			return
		}
		*into = v
	}
}

func join(path, field string) string { return strings.TrimPrefix(path+"."+field, ".") }

// describe names a node's kind for a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return fmt.Sprintf("%.60q", n.Value)
}
