package cilium

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	plexus "github.com/plexusmesh/plexus/policy"
)

// exception is a reason why one of both refuses what the other accepts.
type exception struct {
	why     string         // the reason
	refusal *regexp.Regexp // matches what is said of it
}

func because(why, refusal string) exception { return exception{why, regexp.MustCompile(refusal)} }

// stricter are the reasons why Plexus refuses what Cilium accepts, apart from
// those in testdata/stricter.yaml.
var stricter = []exception{
	because("Cilium's reader makes texts of other scalars", `want text, not `),
	because("Cilium's reader skips what is null or empty", `field has no value|namespace "" is malformed`),
	because("a list or entry that looks as if it restricted or denied, and does not",
		`has 0 (ports|types)|names no (port|type)|is an empty list: leave it out for every|an empty list does nothing|an empty entry denies nobody`),
	because("without a port Cilium takes every one, where it has protocols without ports enabled", `port: is missing`),
	because("a port that Cilium reads as octal", `"07" is not a port`),
	because("a range that ends before it begins, or begins at a name", `is out of range: write a number from port|a range cannot begin at the name`),
	because("a name for the port of a protocol that has none", `protocol ESP has no ports`),
	because("an ICMP type that is none", `is no ICMP type of`),
	because("Cilium takes a selector of groups that asks for nothing for the whole world", `asks for no label that a group has`),
	because("a log without its text", `write the text to show with flows`),
}

// looser are the reasons why Cilium refuses what Plexus accepts.
var looser = []exception{
	because("the schema wants a length, though Cilium's own parser takes an address alone", `in body must be of type cidr: "[0-9a-f.:]+"$`),
	because("nothing is decided by annotations", `^\[?annotations: `),
}

func corpus(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(data), "\n---\n")
}

func TestBothAccept(t *testing.T) {
	for _, doc := range corpus(t, "testdata/accept.yaml") {
		ours, theirs := refusals(doc)
		if ours != nil || theirs != nil {
			t.Errorf("Plexus says %v\nCilium says %v\n%s", ours, theirs, doc)
		}
	}
}

func TestOnlyCiliumAccepts(t *testing.T) {
	for _, doc := range corpus(t, "testdata/stricter.yaml") {
		ours, theirs := refusals(doc)
		if ours == nil || theirs != nil {
			t.Errorf("Plexus says %v\nCilium says %v\n%s", ours, theirs, doc)
		}
	}
}

func TestBothRefuse(t *testing.T) {
	for _, doc := range corpus(t, "testdata/refuse.yaml") {
		ours, theirs := refusals(doc)
		if ours == nil || theirs == nil {
			t.Errorf("Plexus says %v\nCilium says %v\n%s", ours, theirs, doc)
		}
	}
}

// yamlBlock is an example of a page.
var yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?)```")

// ownFields are those that Cilium does not know.
var ownFields = because("a field of Plexus alone", `unknown fields: spec\.enforcement$`)

// TestCiliumAcceptsWhatDocsTeach holds Cilium to every example that Plexus accepts.
func TestCiliumAcceptsWhatDocsTeach(t *testing.T) {
	page, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, block := range yamlBlock.FindAllStringSubmatch(string(page), -1) {
		policies, err := plexus.Parse("policy.md", []byte(block[1]))
		if err != nil {
			continue
		}
		for _, p := range policies {
			count++
			if _, err := read(p.Source, localCluster); err != nil && !explained(append(slices.Clip(looser), ownFields), err, make(map[*regexp.Regexp]bool)) {
				t.Errorf("Cilium says %v\n%s", err, p.Source)
			}
		}
	}
	if count < 5 {
		t.Errorf("only %d examples were found", count)
	}
}

// refusals returns what each says of a document, nil where it is accepted.
func refusals(doc string) (ours, theirs error) {
	_, ours = plexus.Parse("doc.yaml", []byte(doc))
	_, theirs = read(doc, localCluster)
	return ours, theirs
}

// TestBothAgreeOnMutations changes one thing at a time in documents that both
// accept. Those of networking.k8s.io are left out: what an API server checks in
// them is in no package that can be imported.
func TestBothAgreeOnMutations(t *testing.T) {
	count := 0
	used := make(map[*regexp.Regexp]bool)
	for _, doc := range corpus(t, "testdata/accept.yaml") {
		if strings.Contains(doc, "networking.k8s.io") {
			continue
		}
		for what, mutant := range mutations(t, doc) {
			count++
			ours, theirs := refusals(mutant)
			switch {
			case ours == nil && theirs != nil && !explained(looser, theirs, used):
				t.Errorf("%s: Cilium refuses: %v", what, theirs)
			case ours != nil && theirs == nil && !explained(stricter, ours, used):
				t.Errorf("%s: Plexus refuses: %v", what, ours)
			}
		}
	}
	for _, e := range slices.Concat(stricter, looser) {
		if !used[e.refusal] {
			t.Errorf("nothing is refused any more because: %s", e.why)
		}
	}
	t.Logf("%d mutations", count)
}

// explained reports whether every problem in err has its reason, and notes
// which ones were used.
func explained(by []exception, err error, used map[*regexp.Regexp]bool) bool {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		return !slices.ContainsFunc(many.Unwrap(), func(e error) bool { return !explained(by, e, used) })
	}
	i := slices.IndexFunc(by, func(e exception) bool { return e.refusal.MatchString(err.Error()) })
	if i >= 0 {
		used[by[i].refusal] = true
	}
	return i >= 0
}
