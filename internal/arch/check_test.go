package arch

import (
	"fmt"
	"slices"
	"strings"
)

const module = "github.com/plexusmesh/plexus"

// node is one package of the module; paths in it are relative to the module
// where they are in it.
type node struct {
	path    string
	imports []string // direct, tests excepted
	deps    []string // through any number of steps
	uses    []string // "time.Now": selected names of the packages in reaching
}

// forTests reports whether a package is a fake, a harness or a test.
func forTests(path string) bool {
	return room(path) == "test" || strings.HasSuffix(path, "test") || slices.ContainsFunc(testOnly, func(dir string) bool { return within(path, dir) })
}

// fit returns the row of rooms for a package.
func fit(path string) (row string, k kind) {
	if forTests(path) {
		return path, support
	}
	if k, ok := rooms[path]; ok {
		return path, k
	}
	for dir := path; ; {
		i := strings.LastIndexByte(dir, '/')
		if i < 0 {
			return "", 0
		}
		dir = dir[:i]
		if k, ok := rooms[dir+"/..."]; ok {
			return dir + "/...", k
		}
	}
}

func matches(row, path string) bool {
	if dir, below := strings.CutSuffix(row, "/..."); below {
		return strings.HasPrefix(path, dir+"/")
	}
	return row == path
}

// within also takes what lies below an import path.
func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func room(path string) string { first, _, _ := strings.Cut(path, "/"); return first }

func isForeign(path string) bool {
	return strings.Contains(room(path), ".")
}

// check returns every breach of the rules, in words.
func check(nodes []node) []string {
	ours := map[string]bool{}
	for _, n := range nodes {
		ours[n.path] = true
	}
	var out []string
	for _, n := range nodes {
		row, k := fit(n.path)
		if row == "" {
			out = append(out, fmt.Sprintf("%s fits no row: say in rooms what it is", n.path))
			continue
		}
		out = append(out, checkNode(n, k, ours)...)
	}
	return append(out, checkRows(nodes)...)
}

func checkNode(n node, k kind, ours map[string]bool) []string {
	var out []string
	breach := func(to, why string) { out = append(out, fmt.Sprintf("%s must not import %s: %s", n.path, to, why)) }
	for _, to := range n.imports {
		if ours[to] {
			if why := inner(n.path, k, to); why != "" {
				breach(to, why)
			}
		} else if why := outer(n.path, k, to); why != "" {
			breach(to, why)
		}
	}
	for _, use := range n.uses {
		if k == pure || k == timed && !strings.HasPrefix(use, "time.") {
			out = append(out, fmt.Sprintf("%s must not use %s: pure packages are told", n.path, use))
		}
	}
	for _, rule := range far {
		if rule.from == n.path && slices.ContainsFunc(n.deps, func(dep string) bool { return within(dep, rule.path) }) {
			out = append(out, fmt.Sprintf("%s must not depend on %s: %s", n.path, rule.path, rule.why))
		}
	}
	return out
}

// inner says why a package of kind k must not import another of ours, or nothing.
func inner(from string, k kind, to string) string {
	_, target := fit(to)
	switch {
	case room(to) == "cmd":
		return "nobody imports a command"
	case k != support && forTests(to):
		return "it is for tests"
	case k == timed && to != "internal/calm": // which has none either
		return "reconcile has no domain words"
	case k == pure && target != pure:
		return "pure packages know nothing of effects"
	case k == effect && (to == "state" || to == "plan"):
		return "effects do not know who decides"
	case (k == effect || k == pure) && target == home:
		return "only commands know the agent"
	case k == effect && target == effect && room(from) != room(to) && !bridged(from, to):
		return "effects meet in agent, or bridges needs a row with its why"
	}
	return ""
}

func bridged(from, to string) bool {
	for _, b := range bridges {
		if b.from == room(from) && b.to == room(to) {
			return true
		}
	}
	return false
}

// outer says why a pure package must not import something foreign or standard.
func outer(from string, k kind, to string) string {
	if k != pure && k != timed {
		return ""
	}
	if impure[to] {
		return "it reaches the outside"
	}
	for _, f := range foreign {
		if f.from == from && f.path == to {
			return ""
		}
	}
	if isForeign(to) {
		return "pure packages use the standard library, or foreign needs a row with its why"
	}
	return ""
}

// checkRows returns the rows of all tables that fit nothing any more.
func checkRows(nodes []node) []string {
	exists := func(row string) bool {
		return slices.ContainsFunc(nodes, func(n node) bool { return matches(row, n.path) || room(n.path) == row })
	}
	var out []string
	gone := func(table, row string) {
		if _, later := notYet[row]; !later && !exists(row) {
			out = append(out, fmt.Sprintf("%s names %s, which does not exist", table, row))
		}
	}
	for row := range rooms {
		gone("rooms", row)
	}
	for _, b := range bridges {
		gone("bridges", b.from)
		gone("bridges", b.to)
	}
	for _, f := range foreign {
		gone("foreign", f.from)
	}
	for _, dir := range testOnly {
		gone("testOnly", dir)
	}
	for _, f := range far {
		gone("far", f.from)
	}
	for row, what := range notYet {
		if exists(row) {
			out = append(out, fmt.Sprintf("%s (%s) is here: move it from notYet to rooms", row, what))
		}
	}
	return out
}
