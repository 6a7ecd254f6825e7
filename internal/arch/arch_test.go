package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// listed is what go list tells of a package.
type listed struct {
	Dir, ImportPath                    string
	Standard                           bool
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports, Deps                      []string
}

// goList lists the module's packages.
func goList(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles,Imports,Deps", "./...")
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, &stderr)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("decode go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages: the test looks in the wrong place", len(all))
	}
	return all
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func relative(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func relatives(paths []string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, relative(p))
	}
	return out
}

func TestImports(t *testing.T) {
	var nodes []node
	for _, p := range goList(t) {
		rel := relative(p.ImportPath)
		nodes = append(nodes, node{path: rel, imports: relatives(p.Imports), deps: p.Deps, uses: uses(t, p)})
	}
	for _, breach := range check(nodes) {
		t.Error(breach)
	}
}

// uses lists the names of reaching that the package's own files select.
func uses(t *testing.T, p listed) []string {
	t.Helper()
	var out []string
	for _, name := range p.GoFiles {
		file := parse(t, filepath.Join(p.Dir, name), parser.SkipObjectResolution)
		local := localNames(t, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && reaching[local[x.Name]][sel.Sel.Name] {
					out = append(out, local[x.Name]+"."+sel.Sel.Name)
				}
			}
			return true
		})
	}
	return out
}

// localNames maps what the file calls a package to its import path.
func localNames(t *testing.T, file *ast.File) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, imp := range file.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		name := path.Base(p)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		out[name] = p
	}
	return out
}

func parse(t *testing.T, name string, mode parser.Mode) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// The rules must bite: each planted edge is one breach.
func TestCheckBites(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		node       node
	}{
		{"unknown package", "fits no row", node{path: "util"}},
		{"pure with effects", "policy must not import kvstore", node{path: "policy", imports: []string{"kvstore"}}},
		{"pure with a file", "plan must not import os", node{path: "plan", imports: []string{"os"}}},
		{"pure with a library", "plan must not import go.yaml.in/yaml/v3", node{path: "plan", imports: []string{"go.yaml.in/yaml/v3"}}},
		{"pure with a clock", "state must not use time.Now", node{path: "state", uses: []string{"time.Now"}}},
		{"pure with a socket", "reconcile must not use net.Dial", node{path: "reconcile", uses: []string{"net.Dial"}}},
		{"domain in reconcile", "reconcile must not import mesh", node{path: "reconcile", imports: []string{"mesh"}}},
		{"effect with decision", "datapath/route must not import plan", node{path: "datapath/route", imports: []string{"plan"}}},
		{"effect with another", "encryption/wg must not import datapath/route", node{path: "encryption/wg", imports: []string{"datapath/route"}}},
		{"effect with agent", "observe must not import agent/api", node{path: "observe", imports: []string{"agent/api"}}},
		{"command as library", "agent must not import cmd/plexusd", node{path: "agent", imports: []string{"cmd/plexusd"}}},
		{"test code in the daemon", "agent must not import kvstore/kvtest", node{path: "agent", imports: []string{"kvstore/kvtest"}}},
		{"server in the command line", "cmd/plexus must not depend on go.etcd.io/etcd/server/v3", node{path: "cmd/plexus", deps: []string{"go.etcd.io/etcd/server/v3/embed"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, k := fit(tt.node.path)
			ours := map[string]bool{"kvstore": true, "mesh": true, "plan": true, "datapath/route": true, "agent/api": true, "cmd/plexusd": true, "kvstore/kvtest": true}
			got := checkNode(tt.node, k, ours)
			if k == 0 {
				got = check([]node{tt.node})[:1]
			}
			if len(got) != 1 || !strings.Contains(got[0], tt.want) {
				t.Errorf("got %q; want one breach with %q", got, tt.want)
			}
		})
	}
	if got := checkNode(node{path: "control/server", imports: []string{"kvstore", "mesh", "os"}}, effect, map[string]bool{"kvstore": true, "mesh": true}); len(got) != 0 {
		t.Errorf("what the design allows is refused: %q", got)
	}
	if got := checkRows([]node{{path: "gossip"}}); !slices.Contains(got, "gossip (liveness hints) is here: move it from notYet to rooms") ||
		!slices.Contains(got, "rooms names plan, which does not exist") {
		t.Errorf("stale rows go unseen: %q", got)
	}
}

func TestPackageComments(t *testing.T) {
	for _, p := range goList(t) {
		if err := packageComment(t, p); err != nil {
			t.Errorf("%s: %v", relative(p.ImportPath), err)
		}
	}
}

// packageComment wants exactly one, and in doc.go unless the package is one file.
func packageComment(t *testing.T, p listed) error {
	var written, with []string
	for _, name := range p.GoFiles {
		file := parse(t, filepath.Join(p.Dir, name), parser.ParseComments|parser.PackageClauseOnly)
		if ast.IsGenerated(file) {
			continue
		}
		written = append(written, name)
		if file.Doc != nil {
			with = append(with, name)
		}
	}
	switch {
	case len(written) == 0: // generated, or tests alone
		return nil
	case len(with) != 1:
		return fmt.Errorf("want one package comment, it is in %q", with)
	case len(written) > 1 && with[0] != "doc.go" && room(relative(p.ImportPath)) != "cmd":
		return fmt.Errorf("the package comment of several files belongs in doc.go, it is in %s", with[0])
	}
	return nil
}

func TestNoReplace(t *testing.T) {
	for _, dir := range []string{".", "tools"} {
		cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
		cmd.Dir = filepath.Join(root(t), dir)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("read go.mod in %s: %v", dir, err)
		}
		var mod struct {
			Replace []struct{ Old struct{ Path string } }
		}
		if err := json.Unmarshal(out, &mod); err != nil {
			t.Fatal(err)
		}
		for _, r := range mod.Replace {
			t.Errorf("%s/go.mod replaces %s: go install would build something else", dir, r.Old.Path)
		}
	}
}
