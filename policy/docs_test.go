package policy

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// block is a fenced part of a page.
type block struct {
	language string
	text     string
}

func fencedBlocks(page string) []block {
	var out []block
	var open *block
	for line := range strings.Lines(page) {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{language: strings.TrimSpace(language)}
		case fence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	return out
}

// TestEveryExampleOfThePage runs docs/policy.md: every policy in it is followed
// by what it decides, or by why it is refused.
func TestEveryExampleOfThePage(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := fencedBlocks(string(page))
	if len(blocks) < 20 || len(blocks)%2 != 0 {
		t.Fatalf("page has %d blocks, want pairs of a policy and its verdicts", len(blocks))
	}
	for i := 0; i < len(blocks); i += 2 {
		example, outcome := blocks[i], blocks[i+1]
		if example.language != "yaml" {
			t.Fatalf("want a policy, not a block of %q:\n%s", example.language, example.text)
		}
		switch outcome.language {
		case "verdicts":
			play(t, mustParse(t, example.text), outcome.text)
		case "refused":
			_, err := Parse("wrong.yaml", []byte(example.text))
			if err == nil {
				t.Fatalf("accepted:\n%s", example.text)
			}
			if diff := cmp.Diff(strings.TrimSpace(outcome.text), err.Error()); diff != "" {
				t.Errorf("refusal (-page +got):\n%s", diff)
			}
		default:
			t.Errorf("want verdicts or refused, not a block of %q:\n%s", outcome.language, outcome.text)
		}
	}
}

// TestThePageNamesEverything keeps the tables of the page whole.
func TestThePageNamesEverything(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entities {
		names = append(names, string(e))
	}
	for _, f := range icmpFamilies {
		names = slices.AppendSeq(names, maps.Keys(f.types))
	}
	for _, name := range protocolNames {
		if name != "ICMP" && name != "ICMPv6" && name != "TCP" && name != "UDP" && name != "SCTP" {
			names = append(names, name)
		}
	}
	for field, why := range notEnforced {
		if !strings.HasPrefix(why, "it is written by a Kubernetes cluster") {
			names = append(names, field)
		}
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("page does not speak of %s", name)
		}
	}
}
