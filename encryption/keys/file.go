package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/plexusmesh/plexus/encryption"
	"golang.org/x/sys/unix"
)

// maxFile is more than a key in base64 and its newline (45 bytes) needs.
const maxFile = 128

// LoadOrCreate returns the private key in the file at path, in the form that wg
// genkey writes. Where there is no file, it makes a key and writes it with mode
// 0600, so that after a crash the file is there whole or not at all. A file that others can read,
// or that holds no key, is an error that says what to do.
func LoadOrCreate(path string) (encryption.PrivateKey, error) {
	k, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k = encryption.NewPrivateKey()
	if err := create(path, k); err != nil {
		return encryption.PrivateKey{}, fmt.Errorf("write WireGuard key file %s: %w", path, err)
	}
	return k, nil
}

// Load returns the private key in the file at path. The error is
// [fs.ErrNotExist] when there is none.
func Load(path string) (encryption.PrivateKey, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return encryption.PrivateKey{}, fmt.Errorf("open WireGuard key file %s: it is a symbolic link: put the file itself there", path)
	}
	if err != nil {
		return encryption.PrivateKey{}, fmt.Errorf("open WireGuard key file: %w", err)
	}
	defer f.Close()
	if err := checkMode(f); err != nil {
		return encryption.PrivateKey{}, err
	}
	return read(f)
}

// checkMode refuses a file that anyone but its owner can open.
func checkMode(f *os.File) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("check WireGuard key file: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("check WireGuard key file %s: it is no regular file", f.Name())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("check WireGuard key file %s: mode %#o lets others at it: run chmod 600 %s, and make a new key if anyone may have read it",
			f.Name(), info.Mode().Perm(), f.Name())
	}
	return nil
}

func read(f *os.File) (encryption.PrivateKey, error) {
	raw, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return encryption.PrivateKey{}, fmt.Errorf("read WireGuard key file: %w", err)
	}
	k, err := encryption.ParsePrivateKey(strings.TrimSpace(string(raw)))
	if err != nil {
		return encryption.PrivateKey{}, fmt.Errorf("read WireGuard key file %s: %w: restore it from a backup, or remove it so that a new key is made", f.Name(), err)
	}
	return k, nil
}

// create writes a temporary file beside path and renames it there, with both
// file and directory on disk before it returns.
func create(path string, k encryption.PrivateKey) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails, as it should, once renamed
	_, err = tmp.WriteString(k.Encode() + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
