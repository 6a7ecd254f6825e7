package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/internal/version"
	"github.com/plexusmesh/plexus/observe"
)

var manual = filepath.Join("..", "..", "docs", "cli.md")

// referenceStart opens the part of the manual that is made from the commands.
const referenceStart = "<!-- From here on, this page is made by PLEXUS_UPDATE_DOCS=1 go test ./cmd/plexus -->\n"

// commands returns every command that people can call, parents first.
func commands(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			out = append(out, commands(sub)...)
		}
	}
	return out
}

func TestEveryCommandIsExplained(t *testing.T) {
	for _, cmd := range commands(newRoot(&app{})) {
		for what, text := range map[string]string{"short": cmd.Short, "long": cmd.Long, "example": cmd.Example} {
			if text == "" {
				t.Errorf("%s has no %s text", cmd.CommandPath(), what)
			}
		}
		if cmd.HasParent() && cmd.Args == nil {
			t.Errorf("%s does not check its arguments", cmd.CommandPath())
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short text ends with a full stop", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Long) {
			if n := len([]rune(strings.TrimSpace(line))); n > 100 {
				t.Errorf("%s: a line of the long text has %d characters", cmd.CommandPath(), n)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no text", cmd.CommandPath(), f.Name)
			}
		})
	}
}

func TestEveryDataCommandTakesAFormat(t *testing.T) {
	silent := []string{"plexus leave", "plexus token revoke", "plexus node remove", "plexus completion"}
	for _, cmd := range commands(newRoot(&app{})) {
		if cmd.HasSubCommands() || slices.Contains(silent, cmd.CommandPath()) {
			continue
		}
		f := cmd.Flags().Lookup("output")
		if f == nil || f.Shorthand != "o" {
			t.Errorf("%s has no -o", cmd.CommandPath())
			continue
		}
		if complete, ok := cmd.GetFlagCompletionFunc("output"); !ok || complete == nil {
			t.Errorf("%s does not complete -o", cmd.CommandPath())
		}
	}
}

func TestExamplesParse(t *testing.T) {
	for _, cmd := range commands(newRoot(&app{})) {
		for _, line := range calls(cmd.Example) {
			if err := parses(line); err != nil {
				t.Errorf("example of %s: %q: %v", cmd.CommandPath(), line, err)
			}
		}
	}
	for _, name := range []string{"cli.md", "observe.md"} {
		page, err := os.ReadFile(filepath.Join(filepath.Dir(manual), name))
		if err != nil {
			t.Fatal(err)
		}
		found := calls(string(page))
		if len(found) < 3 {
			t.Errorf("%s has only %d examples", name, len(found))
		}
		for _, line := range found {
			if err := parses(line); err != nil {
				t.Errorf("example in %s: %q: %v", name, line, err)
			}
		}
	}
	if err := parses("plexus node get"); err == nil {
		t.Error("an example without its argument goes unseen")
	}
	if err := parses("plexus init --cluster-name x"); err == nil {
		t.Error("an example without a required flag goes unseen")
	}
}

// calls returns the plexus commands of a text: those that begin an indented
// line, or stand behind a pipe in one.
func calls(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "  ") {
			continue
		}
		for part := range strings.SplitSeq(line, "|") {
			part, _, _ = strings.Cut(part, ">")
			part, _, _ = strings.Cut(part, "<")
			if part = strings.TrimSpace(part); strings.HasPrefix(part, "plexus ") {
				out = append(out, part)
			}
		}
	}
	return out
}

// parses checks line as far as can be done without running it.
func parses(line string) error {
	cmd, args, err := newRoot(&app{}).Find(words(line)[1:])
	if err != nil {
		return err
	}
	if cmd.HasSubCommands() {
		return fmt.Errorf("%s is no command to call", cmd.CommandPath())
	}
	if err := cmd.ParseFlags(args); err != nil {
		return err
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateFlagGroups()
}

// words splits a line at white space outside of double quotes.
func words(line string) []string {
	quoted := false
	out := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], `"`, "")
	}
	return out
}

// TestManual holds docs/cli.md to the commands as they are.
func TestManual(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	intro, reference, ok := strings.Cut(string(page), referenceStart)
	if !ok {
		t.Fatalf("%s has no line %q", manual, referenceStart)
	}
	want := renderReference()
	if os.Getenv("PLEXUS_UPDATE_DOCS") != "" {
		if err := os.WriteFile(manual, []byte(intro+referenceStart+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, reference); diff != "" {
		t.Errorf("the commands changed: run PLEXUS_UPDATE_DOCS=1 go test ./cmd/plexus (-want +got):\n%s", diff)
	}
}

func renderReference() string {
	var b strings.Builder
	for _, cmd := range commands(newRoot(&app{socket: api.DefaultSocket})) {
		if !cmd.HasParent() {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n%s\n\n", cmd.CommandPath(), cmd.Short, cmd.Long)
		if cmd.HasSubCommands() {
			continue
		}
		fmt.Fprintf(&b, "```console\n%s\n```\n", strings.Trim(cmd.Example, "\n"))
		flags := cmd.NonInheritedFlags()
		flags.SortFlags = true
		if usage := flags.FlagUsages(); usage != "" {
			fmt.Fprintf(&b, "\n```text\n%s```\n", usage)
		}
	}
	return b.String()
}

// TestManualNamesEveryField holds the manual to the JSON contract.
func TestManualNamesEveryField(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	intro, _, _ := strings.Cut(string(page), referenceStart)
	for _, v := range []any{
		api.Status{}, api.Joined{}, api.Node{}, api.Identity{}, api.Token{}, api.Policy{}, applied{}, api.Review{}, api.Revision{}, api.Disarmed{}, api.Armed{}, api.IPCacheEntry{},
		api.PolicyEntry{}, api.FlowEntry{}, api.CounterEntry{}, api.Pinhole{}, validation{}, testResult{}, api.Explanation{}, version.Info{}, examination{},
	} {
		for _, name := range fields(reflect.TypeOf(v)) {
			if !strings.Contains(intro, "`"+name+"`") {
				t.Errorf("%s: field %s of %T is not explained", manual, name, v)
			}
		}
	}
	flowPage, err := os.ReadFile(filepath.Join(filepath.Dir(manual), "observe.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range fields(reflect.TypeFor[observe.Flow]()) {
		if !strings.Contains(string(flowPage), "`"+name+"`") {
			t.Errorf("observe.md: field %s is not explained", name)
		}
	}
}

// fields returns the JSON names of a struct's fields and of those inside them.
func fields(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[time.Time]() {
		return nil
	}
	var out []string
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("json")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		out = append(append(out, name), fields(t.Field(i).Type)...)
	}
	return out
}
