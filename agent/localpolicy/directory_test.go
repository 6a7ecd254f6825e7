package localpolicy

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openDir(t *testing.T, dir string, accepted map[string][]byte) (*Directory, Set, <-chan Set) {
	t.Helper()
	changes := make(chan Set, 10)
	d, set := Open(Options{Dir: dir, Accepted: accepted, Logger: slog.New(slog.DiscardHandler), Changed: func(s Set) { changes <- s }})
	return d, set, changes
}

func TestOnlyPolicyFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), doc("x", 1))
	write(t, filepath.Join(dir, "b.yml"), doc("y", 1))
	write(t, filepath.Join(dir, ".hidden.yaml"), doc("z", 1))
	write(t, filepath.Join(dir, "a.yaml~"), doc("z", 1))
	if err := os.Symlink(filepath.Join(dir, "a.yaml~"), filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, set, _ := openDir(t, dir, nil)
	if diff := cmp.Diff([]string{"local:x:1", "local:y:1", "local:z:1"}, ids(set)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if len(set.Problems) != 1 || !strings.Contains(set.Problems[0].Error(), "no regular file") {
		t.Errorf("problems: %v, want one of the pipe", set.Problems)
	}
	for _, p := range set.Policies {
		if !p.Local {
			t.Errorf("%s is not marked as the host's own", p.ID())
		}
	}
}

func TestADirectoryThatIsNotThereSaysNothing(t *testing.T) {
	accepted := map[string][]byte{"a.yaml": []byte(doc("x", 1))}
	_, set, _ := openDir(t, filepath.Join(t.TempDir(), "none"), accepted)
	if len(set.Policies) != 0 || len(set.Problems) != 0 {
		t.Errorf("%v, %v", ids(set), set.Problems)
	}
}

func TestADirectoryThatCannotBeReadKeepsWhatWasAccepted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "")
	_, set, _ := openDir(t, path, map[string][]byte{"a.yaml": []byte(doc("x", 1))})
	if diff := cmp.Diff([]string{"local:x:1"}, ids(set)); diff != "" || len(set.Problems) != 1 || !set.Problems[0].Kept {
		t.Errorf("problems %v; want -, got +:\n%s", set.Problems, diff)
	}
}

func TestTooMuchIsRefused(t *testing.T) {
	dir := t.TempDir()
	padding := strings.Repeat("# padding\n", 100_000) // a million bytes
	for i := range MaxTotal/len(padding) + 2 {
		name := string(rune('a' + i))
		write(t, filepath.Join(dir, name+".yaml"), doc(name, 1)+padding)
	}
	_, set, _ := openDir(t, dir, nil)
	if want := MaxTotal / len(padding); len(set.Policies) != want || len(set.Problems) != 2 {
		t.Errorf("%d policies, problems %v; want %d and two problems", len(set.Policies), set.Problems, want)
	}
}

// Files are read after a notice once it is quiet, and now and then without one.
func TestChangesAreReadAfterANoticeAndWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d, _, changes := openDir(t, dir, nil)
		ctx, cancel := context.WithCancel(t.Context())
		notice, watched := make(chan struct{}), 0
		done := make(chan error)
		go func() { done <- d.follow(ctx, notice, func() { watched++ }) }()

		notice <- struct{}{}
		write(t, filepath.Join(dir, "a.yaml"), doc("x", 1)) // in two steps
		time.Sleep(Quiet / 2)
		notice <- struct{}{}
		write(t, filepath.Join(dir, "a.yaml"), doc("x", 2))
		time.Sleep(Quiet + time.Millisecond)
		synctest.Wait()
		if got := ids(<-changes); !cmp.Equal(got, []string{"local:x:2"}) || len(changes) != 0 {
			t.Errorf("after the notice: %v, and %d more changes", got, len(changes))
		}

		write(t, filepath.Join(dir, "b.yaml"), doc("y", 1))
		time.Sleep(2 * Period)
		synctest.Wait()
		if got := ids(<-changes); !cmp.Equal(got, []string{"local:x:2", "local:y:1"}) || len(changes) != 0 {
			t.Errorf("without a notice: %v, and %d more changes", got, len(changes))
		}
		cancel()
		if err := <-done; err != nil || watched < 3 {
			t.Errorf("follow = %v; watched %d times, want at the start and at each tick", err, watched)
		}
	})
}

// A change in the directory is noticed by itself, long before Period.
func TestAChangeIsNoticed(t *testing.T) {
	dir := t.TempDir()
	d, _, changes := openDir(t, dir, nil)
	ctx, cancel := context.WithTimeout(t.Context(), Period/2)
	defer cancel()
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	for i := 0; ; i++ { // the watch begins some time after Run
		write(t, filepath.Join(dir, "a.yaml"), doc("x", 1+i))
		select {
		case set := <-changes:
			if len(set.Policies) != 1 {
				t.Errorf("read %v", ids(set))
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
			return
		case <-time.After(3 * Quiet):
		case <-ctx.Done():
			t.Fatal("no change noticed")
		}
	}
}
