package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// image is a release, ready to boot.
type image struct {
	release
	vmlinuz string // the kernel
	rootfs  string // what the kernel unpacks: the programs and its modules
}

// recipe is what an image is made of; with another recipe it is made anew.
//
//go:embed image.go
var recipe string

// dropped are the parts of packages that no test looks at: without them a machine
// boots in half of the time.
var dropped = []string{
	"boot/", "dev/", "proc/", "run/", "sys/", "tmp/", "var/", "usr/share/", "usr/include/", "usr/lib/udev/", "usr/lib/systemd/",
	"usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/gconv/", "usr/lib/x86_64-linux-gnu/systemd/",
	"usr/lib/modules/*/kernel/drivers/", "usr/lib/modules/*/kernel/fs/", "usr/lib/modules/*/kernel/sound/",
}

// kept are exceptions to dropped.
var kept = []string{
	"usr/share/iproute2/", "usr/lib/modules/*/kernel/drivers/net/*.ko*", "usr/lib/modules/*/kernel/drivers/net/wireguard/", "usr/lib/modules/*/kernel/drivers/net/bonding/",
}

// depmod tells modprobe what depends on what, as the kernel's own package would
// while it is installed.
const depmod = `set -e; for m in "$1"/lib/modules/* "$1"/usr/lib/modules/*; do ` +
	`if [ -d "$m" ]; then depmod --basedir "${m%/lib/modules/*}" "${m##*/}"; fi; done`

// build returns the release's image in dir, making it if it is not there.
func (r release) build(ctx context.Context, dir string) (image, error) {
	sum := sha256.Sum256(fmt.Append(nil, recipe, r, programs, r.sources()))
	base := filepath.Join(dir, fmt.Sprintf("%s-%x", r.suite, sum[:6]))
	img := image{release: r, vmlinuz: base + ".vmlinuz", rootfs: base + ".cpio"}
	if _, err := os.Stat(img.rootfs); err == nil { // the last to be there
		return img, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return img, err
	}
	err := r.fetch(ctx, img)
	if last, ok := ended[r.suite]; err != nil && ok && ctx.Err() == nil {
		if lastErr := last.fetch(ctx, img); lastErr != nil {
			err = errors.Join(err, lastErr)
		} else {
			err = nil
		}
	}
	if err != nil {
		return img, fmt.Errorf("make image of %s: %w", r.suite, err)
	}
	return img, nil
}

// fetch has apt download, verify and unpack the packages, and no package run a
// script of its own.
func (r release) fetch(ctx context.Context, img image) error {
	args := append([]string{
		"--quiet", "--variant=extract", "--format=tar", "--architectures=amd64", `--aptopt=APT::Install-Recommends "false"`,
		"--aptopt=Acquire::Retries \"3\"", "--include=" + strings.Join(append([]string{r.image}, programs...), ","),
		"--extract-hook=" + depmod, r.suite, "-",
	}, r.sources()...)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	var said strings.Builder
	cmd.Stderr = &said
	archive, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	convertErr := img.convert(archive)
	_, drainErr := io.Copy(io.Discard, archive) // so that it can end
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run mmdebstrap: %w\n%s", err, said.String())
	}
	return errors.Join(convertErr, drainErr)
}

// convert writes both files of the image. A file that is there is whole.
func (img image) convert(archive io.Reader) error {
	part, err := os.Create(img.rootfs + ".part")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()
	out := newCPIO(part)
	if err := img.copyAll(out, tar.NewReader(archive)); err != nil {
		return err
	}
	if err := errors.Join(out.close(), part.Close()); err != nil {
		return err
	}
	if _, err := os.Stat(img.vmlinuz); err != nil {
		return fmt.Errorf("find a kernel in the packages: %w", err)
	}
	return os.Rename(part.Name(), img.rootfs)
}

func (img image) copyAll(out *cpioWriter, in *tar.Reader) error {
	for _, dir := range topDirs {
		if err := out.link(dir, "usr/"+dir); err != nil {
			return err
		}
	}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive of packages: %w", err)
		}
		if err := img.copyOne(out, h, in); err != nil {
			return err
		}
	}
}

func (img image) copyOne(out *cpioWriter, h *tar.Header, in io.Reader) error {
	name := merged(path.Clean(strings.TrimPrefix(h.Name, "./")))
	if strings.HasPrefix(name, "boot/vmlinuz-") && h.Typeflag == tar.TypeReg {
		return writeFile(img.vmlinuz, in)
	}
	if !wanted(name) {
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return out.file(name, h.Mode, h.Size, in)
	case tar.TypeSymlink:
		return out.link(name, h.Linkname)
	case tar.TypeLink:
		return out.link(name, "/"+merged(path.Clean(strings.TrimPrefix(h.Linkname, "./"))))
	}
	return nil // directories come with what is in them
}

// topDirs lead to directories of the same name below /usr, in every release: a
// machine of ours does as systems with a merged /usr do.
var topDirs = []string{"bin", "sbin", "lib", "lib64"}

func merged(name string) string {
	for _, dir := range topDirs {
		if strings.HasPrefix(name, dir+"/") {
			return "usr/" + name
		}
	}
	return name
}

func wanted(name string) bool {
	for _, dir := range topDirs {
		if name == dir {
			return false
		}
	}
	return !within(name, dropped) || within(name, kept)
}

// within reports whether a pattern fits the start of name.
func within(name string, patterns []string) bool {
	for _, p := range patterns {
		parts := strings.Split(name, "/")
		n := min(len(parts), strings.Count(p, "/")+1)
		head := strings.Join(parts[:n], "/")
		if strings.HasSuffix(p, "/") || !strings.ContainsAny(p, "*") {
			p += "*"
		}
		if ok, _ := path.Match(p, head); ok {
			return true
		}
	}
	return false
}

func writeFile(name string, in io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}
