package loader

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPageNamesTests keeps docs/packet-tests.md to the tests and the corpus that
// are there.
func TestPageNamesTests(t *testing.T) {
	page, err := os.ReadFile("../../docs/packet-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, dir := range []string{".", "../../test/e2e"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(names) < 40 {
		t.Errorf("the page names %d tests: the pattern no longer fits it", len(names))
	}
	for _, n := range names {
		if !strings.Contains(code.String(), "\nfunc "+n[1]+"(") {
			t.Errorf("there is no %s", n[1])
		}
	}
	for _, n := range regexp.MustCompile("corpus `([^`]+)`").FindAllStringSubmatch(string(page), -1) {
		if found, err := filepath.Glob("testdata/fuzz/*/" + n[1]); err != nil || len(found) == 0 {
			t.Errorf("there is no corpus %s: %v", n[1], err)
		}
	}
}
