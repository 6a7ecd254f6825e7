package keys_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plexusmesh/plexus/encryption"
	"github.com/plexusmesh/plexus/encryption/keys"
)

func TestLoadOrCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "wireguard.key")
	made, err := keys.LoadOrCreate(path)
	if err != nil || made.IsZero() {
		t.Fatalf("create: %v, zero %t", err, made.IsZero())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	again, err := keys.LoadOrCreate(path)
	if err != nil || !again.Equal(made) {
		t.Errorf("load: %v, the same key %t", err, again.Equal(made))
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("directory has %v, %v; want the key file alone", entries, err)
	}
}

func TestRefusedFilesStay(t *testing.T) {
	good := encryption.NewPrivateKey().Encode()
	for _, tt := range []struct {
		name    string
		content string
		mode    os.FileMode
		want    string
	}{
		{"group may read", good, 0o640, "run chmod 600"},
		{"world may read", good, 0o604, "run chmod 600"},
		{"empty", "", 0o600, "remove it so that a new key is made"},
		{"short", "c2VjcmV0", 0o600, "6 bytes, want 32"},
		{"cut off", good[:40], 0o600, "restore it from a backup"},
		{"huge", strings.Repeat("A", 1<<20), 0o600, "restore it from a backup"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			k, err := keys.LoadOrCreate(path)
			if err == nil || !k.IsZero() || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v; want %q and the path in it", err, tt.want)
			}
			if tt.content != "" && strings.Contains(err.Error(), tt.content) {
				t.Errorf("the error repeats the file: %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, []byte(tt.content)) {
				t.Errorf("the file was changed: %v", err)
			}
		})
	}
}

func TestOtherThanFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if _, err := keys.LoadOrCreate(target); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: "symbolic link", dir: "no regular file"} {
		if _, err := keys.LoadOrCreate(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want %q in it", path, err, want)
		}
	}
}

func TestUnwritableDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if k, err := keys.LoadOrCreate(filepath.Join(path, "key")); err == nil || !k.IsZero() {
		t.Errorf("error %v; want one about a directory that is a file", err)
	}
}
