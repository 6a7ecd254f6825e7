package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// lockDir takes the data directory for this process. etcd itself would wait
// for ever, without a word, for another one to leave it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "plexus.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock etcd data directory: %w", err)
	}
	if err := errors.Join(tryLock(f), probeDB(dir)); err != nil {
		_ = f.Close() // gives up the lock
		return nil, err
	}
	return f, nil
}

// probeTimeout is how long the probe waits for another process to let go.
const probeTimeout = 100 * time.Millisecond

// probeDB looks whether an etcd that knows nothing of our lock has the data,
// and whether the data is whole enough to be opened: etcd itself would end the
// process over it, from a goroutine of its own.
func probeDB(dir string) error {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: probeTimeout})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return inUse(path)
	case err != nil:
		return damage(dir, err)
	}
	return db.Close()
}

// damage words what to do about data that etcd cannot read.
func damage(dir string, err error) error {
	return fmt.Errorf("start etcd in %s: %w: %w; restore a backup, or move the directory away and join this server again", dir, ErrDamaged, err)
}

func inUse(path string) error {
	return fmt.Errorf("start etcd: %w: another process has %s locked; stop the etcd or plexusd that uses it", ErrDirInUse, path)
}

func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return inUse(f.Name())
	case err != nil:
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil
}

// marks are what etcd and its database say of damaged data. They have no
// common error value.
var marks = []string{"invalid database", "checksum error", "crc mismatch", "unexpected EOF", "version mismatch",
	"snap: ", "wal: ", "file type mismatch", "cannot unmarshal", "invalid page"}

func damaged(err error) bool {
	for _, m := range marks {
		if strings.Contains(err.Error(), m) {
			return true
		}
	}
	return false
}
