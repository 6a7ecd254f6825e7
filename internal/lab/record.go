package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrInUse says that a living process owns the lab of that prefix.
var ErrInUse = errors.New("lab is in use by another process")

var validPrefix = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// record is what a later process must know to use a lab or to sweep it.
type record struct {
	Mark  string         `json:"mark"`
	Outer string         `json:"outer"` // network namespace the lab was built from
	IPv6  bool           `json:"ipv6"`
	Hosts map[string]int `json:"hosts"` // process id of each holder by host name
}

// room is the directory of one lab: its record and the logs of its daemons.
type room struct {
	dir  string
	lock *os.File
}

func roomDir(prefix string) (string, error) {
	if !validPrefix.MatchString(prefix) {
		return "", fmt.Errorf("lab prefix %q: want 1 to 32 of a-z, 0-9 and inner dashes", prefix)
	}
	return filepath.Join("/run", "plexus-lab-"+prefix), nil
}

// enterRoom makes the directory and locks it for as long as this process lives.
func enterRoom(prefix string) (*room, error) {
	dir, err := roomDir(prefix)
	if err != nil {
		return nil, err
	}
	for {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make lab directory (root needed): %w", err)
		}
		lock, err := lockDir(dir)
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return &room{dir: dir, lock: lock}, nil
		}
	}
}

// lockDir returns nothing when the directory was removed between open and lock.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("open lab directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w (%w)", dir, ErrInUse, err), f.Close())
	}
	held, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if now, err := os.Stat(dir); err != nil || !os.SameFile(held, now) {
		return nil, f.Close()
	}
	return f, nil
}

func (r *room) write(rec record) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode lab record: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "lab.json"), data, 0o600); err != nil {
		return fmt.Errorf("write lab record: %w", err)
	}
	return nil
}

func readRecord(dir string) (record, error) {
	data, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		return record{}, fmt.Errorf("read lab record: %w", err)
	}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, fmt.Errorf("decode lab record in %s: %w", dir, err)
	}
	if rec.Mark == "" {
		return record{}, fmt.Errorf("lab record in %s has no mark", dir)
	}
	return rec, nil
}

// sweep removes what an earlier owner of the room left behind.
func (r *room) sweep() error {
	rec, err := readRecord(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep earlier lab: %w; remove it by hand", err)
	}
	if err := killAll(rec.Mark, rec.Outer); err != nil {
		return fmt.Errorf("sweep earlier lab: %w", err)
	}
	return r.empty()
}

func (r *room) empty() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return fmt.Errorf("list lab directory: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(r.dir, e.Name())); err != nil {
			return fmt.Errorf("empty lab directory: %w", err)
		}
	}
	return nil
}

// leave removes the directory and gives up the lock.
func (r *room) leave() error {
	return errors.Join(r.empty(), os.Remove(r.dir), r.lock.Close())
}

// alive checks that the recorded holder is still the lab's own.
func (rec record) alive(host string) (int, error) {
	pid, ok := rec.Hosts[host]
	if !ok {
		return 0, fmt.Errorf("lab has no host %q", host)
	}
	if !hasEnv(strconv.Itoa(pid), holderEnv, rec.Mark) {
		return 0, fmt.Errorf("host %q is gone: bring the lab down and up again", host)
	}
	return pid, nil
}
