package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/policy"
)

// stdinName is how a command line names standard input.
const stdinName = "-"

// readFile reads a file, or standard input for "-", of at most limit bytes.
func readFile(stdin io.Reader, name string, limit int64) ([]byte, error) {
	r := stdin
	if name != stdinName {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: it has more than the limit of %d bytes%s", name, limit, sizeOf(name))
	}
	return data, nil
}

// sizeOf adds how large a file is that is too large.
func sizeOf(name string) string {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return fmt.Sprintf(" (%d)", info.Size())
}

// readPolicies reads what -f names: files, directories (their *.yaml, *.yml and
// *.json, in order of names, not below) and "-".
func readPolicies(stdin io.Reader, names []string) ([]api.PolicyFile, error) {
	var files []api.PolicyFile
	total := 0
	for _, name := range names {
		paths, err := expand(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			data, err := readFile(stdin, path, policy.MaxFileSize)
			if err != nil {
				return nil, err
			}
			if total += len(data); total > api.MaxPolicyBytes {
				return nil, fmt.Errorf("read policies: %s and those before it have %d bytes, the limit of one apply is %d: apply them in parts",
					path, total, api.MaxPolicyBytes)
			}
			files = append(files, api.PolicyFile{Name: cmp.Or(shownName(path), path), Data: data})
		}
	}
	return files, nil
}

// shownName is what messages call standard input.
func shownName(path string) string {
	if path == stdinName {
		return "stdin"
	}
	return ""
}

func expand(name string) ([]string, error) {
	if name == stdinName {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			out = append(out, filepath.Join(name, e.Name()))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read policies: directory %s has no *.yaml, *.yml or *.json", name)
	}
	return out, nil
}
