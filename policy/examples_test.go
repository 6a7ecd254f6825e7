package policy_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/plexusmesh/plexus/policy"
)

// What the README tells people to apply must be accepted.
func TestExamplesParse(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := policy.Parse(file, data); err != nil || len(got) == 0 {
			t.Errorf("%s: %d policies, %v", file, len(got), err)
		}
	}
}
