package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// Formats of -o.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

// Set accepts the words alone.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("use one of %s", strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

func (c *choice) complete(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return c.of, cobra.ShellCompDirectiveNoFileComp
}

// printer writes data in the format that -o asks for.
type printer struct{ format choice }

// newPrinter gives cmd the flag -o.
func newPrinter(cmd *cobra.Command) *printer {
	p := &printer{choice{formatTable, []string{formatTable, formatWide, formatJSON, formatYAML}}}
	p.addFlag(cmd)
	return p
}

func (p *printer) addFlag(cmd *cobra.Command) {
	cmd.Flags().VarP(&p.format, "output", "o", "output format")
	mustComplete(cmd, "output", p.format.complete)
}

// text reports whether people read what is printed.
func (p *printer) text() bool {
	return p.format.value != formatJSON && p.format.value != formatYAML
}

// print writes v as JSON or YAML, or calls text.
func (p *printer) print(w io.Writer, v any, text func(io.Writer) error) error {
	switch p.format.value {
	case formatJSON:
		return writeJSON(w, v)
	case formatYAML:
		return writeYAML(w, v)
	}
	return text(w)
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// writeYAML goes through JSON, which is YAML too, so that names and order of
// the fields are the same in both.
func writeYAML(w io.Writer, v any) error {
	var data bytes.Buffer
	if err := writeJSON(&data, v); err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data.Bytes(), &doc); err != nil {
		return fmt.Errorf("encode answer as YAML: %w", err)
	}
	blockStyle(&doc)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&doc); err != nil {
		return fmt.Errorf("encode answer as YAML: %w", err)
	}
	return enc.Close()
}

// blockStyle drops the braces and quotes of JSON. The encoder quotes again
// whatever would not read back as the same text.
func blockStyle(n *yaml.Node) {
	empty := (n.Kind == yaml.SequenceNode || n.Kind == yaml.MappingNode) && len(n.Content) == 0
	if !empty {
		n.Style = 0
	}
	for _, c := range n.Content {
		blockStyle(c)
	}
}

// column is one column of a table of T.
type column[T any] struct {
	head string
	cell func(T) string
	wide bool // shown with -o wide only
}

// printList writes rows as a table, or in another format.
func printList[T any](p *printer, w io.Writer, rows []T, columns []column[T]) error {
	return p.print(w, rows, func(w io.Writer) error {
		return writeTable(w, rows, shown(columns, p.format.value == formatWide))
	})
}

// printOne writes one row, which is no list in JSON and YAML.
func printOne[T any](p *printer, w io.Writer, row T, columns []column[T]) error {
	return p.print(w, row, func(w io.Writer) error { return writeTable(w, []T{row}, columns) })
}

func shown[T any](columns []column[T], wide bool) []column[T] {
	return slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.wide && !wide })
}

func writeTable[T any](w io.Writer, rows []T, columns []column[T]) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	heads := make([]string, len(columns))
	for i, c := range columns {
		heads[i] = c.head
	}
	fmt.Fprintln(tw, strings.Join(heads, "\t"))
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = orDash(c.cell(row))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}
