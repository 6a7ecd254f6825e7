package e2e

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// edit changes the source of the programs. It must change something, or the test
// of what it makes would be one of nothing.
type edit struct {
	old *regexp.Regexp
	new string // as in Regexp.ReplaceAll
}

// otherPrograms keeps pings half a minute and a second: other instructions, the
// same maps.
var otherPrograms = []edit{{regexp.MustCompile(`(#define CT_ICMP) \(30 `), `$1 (31 `}}

// filled are the maps that the agent fills, by the middle of their names. Known
// flows are not among them: no agent could tell what they were.
const filled = `ipcache|pinhole|exempt`

// otherLayout gives every map that the agent fills another name, and the values
// of one of them another layout.
var otherLayout = []edit{
	{regexp.MustCompile(`\bplexus_(` + filled + `)_v(\d)\b`), `plexus_${1}_v9$2`},
	{regexp.MustCompile(`(struct ipcache_value \{\n)`), "$1\t__u32 spare[2];\n"},
	{regexp.MustCompile(`(sizeof\(struct ipcache_value\)) == 8\b`), `$1 == 16`},
}

// asBefore gives Go names to the renamed maps that the rest of the code knows.
var asBefore = regexp.MustCompile(`(Plexus(?i:` + filled + `)V)9(\d)\b`)

// buildWith builds a plexusd whose programs are compiled from edited source, as a
// later release might have them, and returns its path.
func buildWith(t *testing.T, edits []edit) string {
	t.Helper()
	work, root := t.TempDir(), repository(t)
	objects := generate(t, root, editedSource(t, filepath.Join(root, "bpf"), edits), work)
	overlay := map[string]map[string]string{"Replace": objects}
	raw, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, out := filepath.Join(work, "overlay.json"), filepath.Join(work, "plexusd")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-overlay", file, "-o", out, "./cmd/plexusd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	runIn(t, root, build)
	return out
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func runIn(t *testing.T, dir string, cmd *exec.Cmd) {
	t.Helper()
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// editedSource returns a copy of the programs' source with every edit made.
func editedSource(t *testing.T, dir string, edits []edit) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "bpf")
	made := make([]int, len(edits))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, e := range edits {
			made[i] += len(e.old.FindAllIndex(text, -1))
			text = e.old.ReplaceAll(text, []byte(e.new))
		}
		copied := filepath.Join(to, strings.TrimPrefix(path, dir))
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return err
		}
		return os.WriteFile(copied, text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range made {
		if n == 0 {
			t.Fatalf("%s is nowhere in %s: the edit of this test needs to follow the source", edits[i].old, dir)
		}
	}
	return to
}

// generate compiles source as "go generate ./datapath/bpfobj" would, and returns
// what stands in for each generated file.
func generate(t *testing.T, root, source, work string) map[string]string {
	t.Helper()
	room := filepath.Join(root, "datapath", "bpfobj")
	tool, args := generator(t, room, source)
	compile := exec.Command("go", append([]string{"tool", tool, "-output-dir", work}, args...)...)
	compile.Env = append(os.Environ(), "GOPACKAGE=bpfobj")
	runIn(t, room, compile)
	code := filepath.Join(work, "plexus_bpfel.go")
	text, err := os.ReadFile(code)
	if err == nil {
		err = os.WriteFile(code, asBefore.ReplaceAll(text, []byte("${1}${2}")), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range []string{"plexus_bpfel.go", "plexus_bpfel.o"} {
		out[filepath.Join(room, name)] = filepath.Join(work, name)
	}
	return out
}

// generator returns tool and arguments that generate.go names, with the source
// taken from elsewhere.
func generator(t *testing.T, room, source string) (tool string, args []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(room, "generate.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(text), "//go:generate go tool ")
	if !found {
		t.Fatal("generate.go does not say how the programs are compiled")
	}
	line, _, _ = strings.Cut(line, "\n")
	fields := strings.Fields(strings.ReplaceAll(line, "../../bpf", source))
	return fields[0], fields[1:]
}
