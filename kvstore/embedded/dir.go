package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// probeDB looks whether an etcd that knows nothing of our lock has the data.
func probeDB(dir string) error {
	db, err := os.OpenFile(filepath.Join(dir, "member", "snap", "db"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open etcd data: %w", err)
	}
	defer db.Close() // and with it the lock
	return tryLock(db)
}

func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return fmt.Errorf("start etcd: %w: another process has %s locked; stop the etcd or plexusd that uses it", ErrDirInUse, f.Name())
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
