package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Path: filepath.Join(t.TempDir(), "snapshot"), Owner: newOwner(t),
		Sources: []string{"nodes", "policies"}, Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t *testing.T, o Options) *Keeper {
	t.Helper()
	k, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func put(name, value string) []Change { return []Change{{Name: name, Value: []byte(value)}} }

// saved is what the file holds, without its time; nil for no file.
func saved(t *testing.T, o Options) *Image {
	t.Helper()
	img, err := read(o)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	img.Saved = time.Time{}
	return &img
}

// run starts k in the bubble and returns how to stop it.
func run(t *testing.T, k *Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

func TestChangesAreOnDiskOnceTheyPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		k := open(t, o)
		stop := run(t, k)
		defer stop()
		k.Note("nodes", put("web", "1"))
		k.Complete("nodes", nil)
		time.Sleep(2 * Latest)
		if got := saved(t, o); got != nil {
			t.Fatalf("half of what there is was written: %v", got)
		}
		k.Complete("policies", nil)
		time.Sleep(Quiet + time.Millisecond)
		synctest.Wait()
		want := &Image{Sources: map[string]Values{"nodes": {"web": []byte("1")}, "policies": {}}}
		if diff := cmp.Diff(want, saved(t, o)); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	})
}

func TestAStreamOfChangesIsWrittenAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		k := open(t, o)
		stop := run(t, k)
		defer stop()
		k.Complete("nodes", nil)
		k.Complete("policies", nil)
		for i := range 11 { // without a pause
			k.Note("nodes", put("web", string(rune('a'+i))))
			time.Sleep(Quiet / 2)
		}
		synctest.Wait()
		if got := saved(t, o); got == nil || string(got.Sources["nodes"]["web"]) < "i" {
			t.Errorf("%v after changes: %v", 11*Quiet/2, got)
		}
	})
}

func TestWhatIsLeftIsWrittenAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		k := open(t, o)
		k.Complete("nodes", nil)
		k.Complete("policies", nil)
		stop := run(t, k)
		k.SetFiles(Values{"a.yaml": []byte("x")})
		stop()
		if got := saved(t, o); got == nil || string(got.Files["a.yaml"]) != "x" {
			t.Errorf("after the end: %v", got)
		}
	})
}

// What was written is what the next run starts with, and what it then hears
// replaces it source by source.
func TestTheNextRunGoesOnFromWhatIsOnDisk(t *testing.T) {
	o := options(t)
	k := open(t, o)
	if k.Earlier() != nil || k.Refused() != nil {
		t.Fatalf("a first start finds %v, %v", k.Earlier(), k.Refused())
	}
	k.Note("nodes", append(put("web", "1"), put("gone", "1")...))
	k.Note("policies", put("db", "1"))
	k.Complete("nodes", nil)
	k.Complete("policies", nil)
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	k = open(t, o)
	if got := k.Earlier(); got == nil || string(got.Sources["nodes"]["gone"]) != "1" {
		t.Fatalf("found %v", got)
	}
	k.Note("nodes", put("web", "2"))
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	want := map[string]Values{"nodes": {"web": []byte("2"), "gone": []byte("1")}, "policies": {"db": []byte("1")}}
	if diff := cmp.Diff(want, saved(t, o).Sources); diff != "" {
		t.Errorf("while nodes are listed: want -, got +:\n%s", diff)
	}
	k.Complete("nodes", nil)
	k.Note("policies", []Change{{Name: "db", Gone: true}})
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	want = map[string]Values{"nodes": {"web": []byte("2")}, "policies": {}}
	if diff := cmp.Diff(want, saved(t, o).Sources); diff != "" {
		t.Errorf("once nodes are listed: want -, got +:\n%s", diff)
	}
	if string(k.Earlier().Sources["policies"]["db"]) != "1" {
		t.Error("what the earlier run left changed under its reader")
	}
	k.Complete("policies", nil)
	if k.Earlier() != nil {
		t.Error("what the earlier run left is still held in memory")
	}
}

// A value that cannot be read must not become one that is absent.
func TestAnUnreadableValue(t *testing.T) {
	k := open(t, options(t))
	k.Note("policies", put("db", "good"))
	k.Note("policies", []Change{{Name: "db", Value: []byte("bad"), Refused: true}, {Name: "web", Value: []byte("bad"), Refused: true}})
	k.Complete("nodes", nil)
	k.Complete("policies", nil)
	img, whole := k.image()
	if want := (Values{"db": []byte("good"), "web": []byte("bad")}); !whole || !cmp.Equal(want, img.Sources["policies"]) {
		t.Errorf("kept %q, want what is in use, and what nothing is known of as it came", img.Sources["policies"])
	}
}

func TestWhatCannotBeUsedIsRefusedAndReplaced(t *testing.T) {
	o := options(t)
	if err := os.WriteFile(o.Path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := open(t, o)
	if k.Earlier() != nil || !errors.Is(k.Refused(), ErrDamaged) {
		t.Fatalf("rubbish: %v, %v", k.Earlier(), k.Refused())
	}
	k.Complete("nodes", nil)
	k.Complete("policies", nil)
	if err := k.save(); err != nil || k.Refused() != nil || saved(t, o) == nil {
		t.Errorf("afterwards: %v, refused %v", err, k.Refused())
	}
	info, err := os.Stat(o.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAFailureIsToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		k := open(t, o)
		if err := os.MkdirAll(filepath.Join(o.Path, "in the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		stop := run(t, k)
		defer stop()
		k.Complete("nodes", nil)
		k.Complete("policies", nil)
		time.Sleep(Quiet + time.Millisecond)
		synctest.Wait()
		if k.Failed() == nil {
			t.Fatal("a write over a directory did not fail")
		}
		if err := os.RemoveAll(o.Path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(Latest + Quiet + time.Millisecond)
		synctest.Wait()
		if k.Failed() != nil || saved(t, o) == nil {
			t.Errorf("still failing: %v", k.Failed())
		}
	})
}
