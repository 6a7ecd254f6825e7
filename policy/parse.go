package policy

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxFileSize is the number of bytes that Parse accepts at most; a larger
// policy would not fit into one etcd request (1.5 MiB).
const MaxFileSize = 1 << 20

// Parse reads every policy of a YAML file, which may hold many documents. file
// is for messages only.
//
// The error holds every [Problem] found, in order of lines; with an error, no
// policy is returned.
func Parse(file string, data []byte) ([]Policy, error) {
	if problem := unreadable(data); problem != "" {
		return nil, joinProblems([]*Problem{{File: file, Text: problem}})
	}
	var (
		policies []Policy
		problems []*Problem
	)
	for _, doc := range split(string(data)) {
		d := &decoder{file: file, skipped: doc.line - 1}
		if p, ok := d.document(doc); ok {
			policies = append(policies, p)
		}
		problems = append(problems, d.problems...)
	}
	problems = append(problems, duplicates(policies)...)
	if len(policies) == 0 && len(problems) == 0 {
		problems = append(problems, &Problem{File: file, Text: "holds no policy: write at least one document"})
	}
	if err := joinProblems(problems); err != nil {
		return nil, err
	}
	return policies, nil
}

// unreadable returns why data is refused before any of it is parsed, or "".
func unreadable(data []byte) string {
	if len(data) > MaxFileSize {
		return fmt.Sprintf("policy has %d bytes, and at most %d are read: split it into several files", len(data), MaxFileSize)
	}
	if !utf8.Valid(data) {
		return "policy is not text in UTF-8: save it with that encoding"
	}
	return ""
}

// Duplicates reports policies of the same kind, namespace and name, which may
// come from several files.
func Duplicates(policies []Policy) error { return joinProblems(duplicates(policies)) }

func duplicates(policies []Policy) []*Problem {
	first := make(map[string]Policy, len(policies))
	var problems []*Problem
	for _, p := range policies {
		was, dup := first[p.ID()]
		if !dup {
			first[p.ID()] = p
			continue
		}
		problems = append(problems, &Problem{
			File: p.File, Line: p.Line, Path: "metadata.name",
			Text: fmt.Sprintf("%s %s is already defined in line %d of %s: rename or remove one", p.Kind, p.ID(), was.Line, was.File),
		})
	}
	return problems
}

// text is one document of a file.
type text struct {
	source string
	line   int  // of its first line in the file
	marked bool // whether "---" opened it
}

// split cuts a file at the lines that YAML keeps for document markers, which
// cannot occur inside any document.
func split(file string) []text {
	var docs []text
	current, start, offset, line := text{line: 1}, 0, 0, 0
	end := func() {
		current.source = file[start:offset]
		docs = append(docs, current)
	}
	for l := range strings.Lines(file) {
		line++
		opens, content := marker(l)
		next := offset + len(l)
		switch {
		case opens && content:
			end()
			current, start = text{line: line, marked: true}, offset
		case opens:
			end()
			current, start = text{line: line + 1, marked: true}, next
		case ends(l):
			end()
			current, start = text{line: line + 1}, next
		}
		offset = next
	}
	end()
	return dropUnmarkedBlanks(docs)
}

// marker reports whether line opens a document, and whether the document
// begins in the same line.
func marker(line string) (opens, content bool) {
	if !isMarker(line, "---") {
		return false, false
	}
	rest := strings.TrimSpace(line[3:])
	return true, rest != "" && !strings.HasPrefix(rest, "#")
}

func isMarker(line, mark string) bool {
	rest, ok := strings.CutPrefix(line, mark)
	return ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n"))
}

// ends reports whether line ends a document. YAML has nothing but a comment
// stand behind such a marker; with more, its parser refuses the document.
func ends(line string) bool { return isMarker(line, "...") && blank(line[len("..."):]) }

// dropUnmarkedBlanks removes what YAML counts as no document: nothing but
// comments, before the first marker or after the end of a document.
func dropUnmarkedBlanks(docs []text) []text {
	var out []text
	for _, d := range docs {
		if d.marked || !blank(d.source) {
			out = append(out, d)
		}
	}
	return out
}

// blank reports whether source holds nothing but comments.
func blank(source string) bool {
	for l := range strings.FieldsFuncSeq(strings.TrimPrefix(source, "\ufeff"), breaksLine) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			return false
		}
	}
	return true
}

// breaksLine reports whether r ends a line, and with it a comment, for the YAML
// parser (YAML 1.1, section 5.4).
func breaksLine(r rune) bool { return strings.ContainsRune("\n\r\u0085\u2028\u2029", r) }

// parseYAML returns the root node of a document, or nil after reporting why
// there is none.
func (d *decoder) parseYAML(doc text) *yaml.Node {
	if blank(doc.source) {
		d.refuseLine(1, "", "document is empty: remove its \"---\", or write a policy")
		return nil
	}
	dec := yaml.NewDecoder(strings.NewReader(doc.source))
	var root yaml.Node
	if err := dec.Decode(&root); err != nil {
		d.refuseYAML(err)
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.refuseLine(1, "", "document holds a second one behind an unusual line break: separate them by a line \"---\"")
		return nil
	}
	if root.Kind != yaml.DocumentNode || len(root.Content) != 1 || !d.plain(&root, 0) {
		return nil
	}
	return root.Content[0]
}

// yamlLine finds the line that a message of the YAML parser speaks of.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

func (d *decoder) refuseYAML(err error) {
	m := yamlLine.FindStringSubmatch(err.Error())
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil {
		line = 1
	}
	d.refuseLine(line, "", "not well-formed YAML: "+strings.TrimPrefix(err.Error(), m[0]))
}
