package loader

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/datapath"
)

// errLinkGone is what the kernel answers for a link whose interface is gone.
const errLinkGone = unix.ENOLINK

// Cleanup detaches every program of ours and removes every pin under root, in
// whichever run they were made, also where nothing is there. It leaves what
// others have attached or pinned.
func Cleanup(root string) error {
	links, err := listLinks(root)
	errs := []error{err}
	early, err := listEarly(root)
	errs = append(errs, err)
	for _, name := range early {
		errs = append(errs, removeEarly(root, name))
	}
	for _, l := range links {
		errs = append(errs, removeLink(root, l.Name))
	}
	errs = append(errs, removePins(mapDir(root)))
	for _, dir := range []string{linkDir(root), mapDir(root), root} {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removePins removes what is pinned of ours, of every layout version.
func removePins(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list pinned maps: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "plexus_") {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// listLinks returns what is attached by either way, sorted by name.
func listLinks(root string) ([]datapath.Link, error) {
	programs, err := listClsact()
	if err != nil {
		return nil, err
	}
	pinned, err := listTCX(root)
	if err != nil {
		return nil, err
	}
	maps.Copy(programs, pinned)
	out := make([]datapath.Link, 0, len(programs))
	for name, prog := range programs {
		out = append(out, datapath.Link{Name: name, Tunnel: strings.HasSuffix(prog, "_tunnel")})
	}
	slices.SortFunc(out, func(a, b datapath.Link) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
