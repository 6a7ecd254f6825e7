package arch

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The hard limits, in lines. The tail of the longest files is what makes code
// hard to read, so there are no exceptions but for generated and vendored ones.
const (
	maxGo     = 600
	maxHeader = 300
)

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFileSizes(t *testing.T) {
	top := root(t)
	seen := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == ".git" || rel == "bin" || rel == "dist" || rel == filepath.Join("bpf", "include") {
				return filepath.SkipDir
			}
			return nil
		}
		limit := map[string]int{".go": maxGo, ".c": maxGo, ".h": maxHeader}[filepath.Ext(path)]
		if limit == 0 {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		if lines := bytes.Count(data, []byte{'\n'}); lines > limit && !generated.Match(data) {
			t.Errorf("%s has %d lines, over the limit of %d: give part of it a file of its own", rel, lines, limit)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Errorf("only %d files: the test looks in the wrong place", seen)
	}
}
