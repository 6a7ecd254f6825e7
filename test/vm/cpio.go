package main

import (
	"fmt"
	"io"
	"strings"
)

// Types of files in an archive, as stat(2) has them.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

// cpioWriter writes the archive that Linux unpacks into its first file system,
// "newc" with the magic 070701 (Documentation/driver-api/early-userspace/buffer-format.rst).
// Archives may follow each other; a later one adds to an earlier one.
type cpioWriter struct {
	w     io.Writer
	inode int
	dirs  map[string]bool
}

func newCPIO(w io.Writer) *cpioWriter { return &cpioWriter{w: w, dirs: map[string]bool{}} }

// file adds one file of size bytes, and the directories above it.
func (c *cpioWriter) file(name string, mode int64, size int64, body io.Reader) error {
	if err := c.parents(name); err != nil {
		return err
	}
	if err := c.header(name, modeFile|mode&0o7777, size); err != nil {
		return err
	}
	n, err := io.Copy(c.w, body)
	if err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	if n != size {
		return fmt.Errorf("archive %s: got %d bytes of %d", name, n, size)
	}
	return c.pad(size)
}

// bytes adds one file with that text.
func (c *cpioWriter) bytes(name, text string) error {
	return c.file(name, 0o644, int64(len(text)), strings.NewReader(text))
}

// link adds a symbolic link.
func (c *cpioWriter) link(name, target string) error {
	if err := c.parents(name); err != nil {
		return err
	}
	if err := c.header(name, modeLink|0o777, int64(len(target))); err != nil {
		return err
	}
	if _, err := io.WriteString(c.w, target); err != nil {
		return err
	}
	return c.pad(int64(len(target)))
}

// dir adds a directory, once.
func (c *cpioWriter) dir(name string) error {
	if c.dirs[name] {
		return nil
	}
	c.dirs[name] = true
	if err := c.parents(name); err != nil {
		return err
	}
	return c.header(name, modeDir|0o755, 0)
}

func (c *cpioWriter) parents(name string) error {
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		return c.dir(name[:i])
	}
	return nil
}

// close ends the archive. Another one may follow.
func (c *cpioWriter) close() error { return c.header("TRAILER!!!", 0, 0) }

// header writes what comes before a file's bytes: all numbers are eight hexadecimal digits.
func (c *cpioWriter) header(name string, mode, size int64) error {
	c.inode++
	h := "070701"
	for _, n := range []int64{int64(c.inode), mode, 0, 0, 1, 0, size, 0, 0, 0, 0, int64(len(name) + 1), 0} {
		h += fmt.Sprintf("%08x", n)
	}
	if _, err := io.WriteString(c.w, h+name+"\x00"); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return c.pad(int64(len(h) + len(name) + 1))
}

// pad fills up to a multiple of four.
func (c *cpioWriter) pad(n int64) error {
	_, err := c.w.Write(make([]byte, -n&3))
	return err
}
