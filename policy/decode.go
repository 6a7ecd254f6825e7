package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds how deep a document may nest; the language itself needs 11.
const maxDepth = 24

// decoder reads one document and gathers its problems.
type decoder struct {
	file     string
	skipped  int // lines of the file before the document
	problems []*Problem
}

// reader reads the value of a field that stands at path.
type reader func(n *yaml.Node, path string)

func (d *decoder) refuse(n *yaml.Node, path, format string, args ...any) {
	d.refuseLine(n.Line, path, fmt.Sprintf(format, args...))
}

func (d *decoder) refuseLine(line int, path, text string) {
	d.problems = append(d.problems, &Problem{File: d.file, Line: d.skipped + line, Path: path, Text: text})
}

// plain reports whether the tree holds only what JSON could say too: without
// anchors, aliases and tags, nothing in it stands for more than is written.
func (d *decoder) plain(n *yaml.Node, depth int) bool {
	switch {
	case depth > maxDepth:
		d.refuse(n, "", "document nests deeper than %d levels, more than any policy needs: check brackets and indentation", maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.refuse(n, "", "YAML anchors and aliases are not accepted: write the value out where it is used")
	case n.Style&yaml.TaggedStyle != 0:
		d.refuse(n, "", "YAML tag %q is not accepted: leave it out", n.Tag)
	default:
		for _, c := range n.Content {
			if !d.plain(c, depth+1) {
				return false
			}
		}
		return true
	}
	return false
}

// object reads a mapping field by field. A field without a reader is refused,
// and then the mapping is not whole: what seems to be missing may be misspelt.
func (d *decoder) object(n *yaml.Node, path string, fields map[string]reader) (whole bool) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, path, "want a mapping of fields, not %s", describe(n))
		return false
	}
	whole = true
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		switch read, known := fields[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.refuse(key, path, "a field's name must be plain text, not %s", describe(key))
		case seen[key.Value]:
			d.refuse(key, at, "field is given twice: keep one")
		case !known:
			whole = false
			d.refuse(key, at, "%s", whyRefused(key.Value, fields))
		case value.ShortTag() == "!!null":
			whole = false
			d.refuse(key, at, "field has no value: give it one, or leave the field out")
		default:
			read(value, at)
		}
		seen[key.Value] = true
	}
	return whole
}

// list reads a sequence item by item.
func (d *decoder) list(n *yaml.Node, path string, item reader) {
	if n.Kind != yaml.SequenceNode {
		d.refuse(n, path, "want a list, not %s", describe(n))
		return
	}
	for i, c := range n.Content {
		at := indexed(path, i)
		if c.ShortTag() == "!!null" {
			d.refuse(c, at, "list item has no value: give it one, or remove the dash")
			continue
		}
		item(c, at)
	}
}

func indexed(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// empty reports whether n is a list or mapping without content.
func empty(n *yaml.Node) bool { return n.Kind != yaml.ScalarNode && len(n.Content) == 0 }

// text reads a string. It is "" where a problem was reported.
func (d *decoder) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.refuse(n, path, "want text, not %s", describe(n))
		return "", false
	}
	if n.ShortTag() != "!!str" {
		d.refuse(n, path, "want text, not %s: write it in quotes, %q", describe(n), n.Value)
		return "", false
	}
	return n.Value, true
}

// into returns a reader that stores a string in s.
func (d *decoder) into(s *string) reader {
	return func(n *yaml.Node, path string) { *s, _ = d.text(n, path) }
}

// texts reads a list of strings.
func (d *decoder) texts(n *yaml.Node, path string) []string {
	var out []string
	d.list(n, path, func(n *yaml.Node, path string) {
		if s, ok := d.text(n, path); ok {
			out = append(out, s)
		}
	})
	return out
}

// number reads an integer.
func (d *decoder) number(n *yaml.Node, path string) (int, bool) {
	v, ok := decimal(n)
	if !ok {
		d.refuse(n, path, "want a decimal number, not %s", describe(n))
	}
	return v, ok
}

// decimal returns the integer that n is, if it is written as every reader of YAML
// takes it: many read 010 as octal.
func decimal(n *yaml.Node) (int, bool) {
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || n.Value != strconv.Itoa(v) {
		return 0, false
	}
	return v, true
}

// truth reads true or false.
func (d *decoder) truth(n *yaml.Node, path string) (value, ok bool) {
	value, err := strconv.ParseBool(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || err != nil {
		d.refuse(n, path, "want true or false, not %s", describe(n))
		return false, false
	}
	return value, true
}

// notes reads a mapping of strings that nothing is decided by.
func (d *decoder) notes(n *yaml.Node, path string) {
	for _, kv := range d.pairs(n, path) {
		d.text(kv[1], join(path, kv[0].Value))
	}
}

// pairs returns the keys and values of a mapping whose keys are free, without
// those that it reports as given twice or as not text.
func (d *decoder) pairs(n *yaml.Node, path string) [][2]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, path, "want a mapping of texts, not %s", describe(n))
		return nil
	}
	seen := make(map[string]bool, len(n.Content)/2)
	var out [][2]*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if seen[key.Value] {
			d.refuse(key, join(path, key.Value), "key is given twice: keep one")
			continue
		}
		if _, ok := d.text(key, path); ok {
			out = append(out, [2]*yaml.Node{key, n.Content[i+1]})
		}
		seen[key.Value] = true
	}
	return out
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// describe names a node's kind for a message.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!int" || n.ShortTag() == "!!float":
		return "the number " + n.Value
	}
	return strconv.Quote(shorten(n.Value))
}

// shorten keeps a message readable when a value is not.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// sortedKeys returns the names of fields in order.
func sortedKeys(fields map[string]reader) []string {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
