package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWanted(t *testing.T) {
	for name, want := range map[string]bool{
		"usr/bin/ip":                                                           true,
		"usr/lib/modules/6.1/modules.dep":                                      true,
		"usr/lib/modules/6.1/kernel/net/sched/cls_bpf.ko":                      true,
		"usr/lib/modules/6.1/kernel/drivers/net/tun.ko":                        true,
		"usr/lib/modules/6.12/kernel/drivers/net/tun.ko.xz":                    true,
		"usr/lib/modules/6.1/kernel/drivers/net/wireguard/wireguard.ko":        true,
		"usr/lib/modules/6.1/kernel/drivers/net/ethernet/intel/e1000/e1000.ko": false,
		"usr/lib/modules/6.1/kernel/fs/xfs/xfs.ko":                             false,
		"usr/share/iproute2/rt_protos":                                         true,
		"usr/share/doc/iproute2/copyright":                                     false,
		"usr/lib/x86_64-linux-gnu/perl5/x":                                     false,
		"var/lib/dpkg/status":                                                  false,
		"lib":                                                                  false,
	} {
		if got := wanted(name); got != want {
			t.Errorf("wanted(%q) = %v", name, got)
		}
	}
}

// TestConvert makes an image of a small archive, and reads back what the kernel
// would unpack.
func TestConvert(t *testing.T) {
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	for _, h := range []tar.Header{
		{Name: "./bin/", Typeflag: tar.TypeDir},
		{Name: "./bin/ip", Typeflag: tar.TypeReg, Mode: 0o755, Size: 3},
		{Name: "./usr/bin/awk", Typeflag: tar.TypeSymlink, Linkname: "mawk"},
		{Name: "./sbin/tc", Typeflag: tar.TypeLink, Linkname: "./bin/ip"},
		{Name: "./boot/vmlinuz-6.1", Typeflag: tar.TypeReg, Size: 3},
		{Name: "./usr/share/doc/x", Typeflag: tar.TypeReg, Size: 3},
	} {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			fmt.Fprint(tw, "abc")
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "image")
	img := image{vmlinuz: base + ".vmlinuz", rootfs: base + ".cpio"}
	if err := img.convert(&archive); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"120777 bin -> usr/bin", "120777 sbin -> usr/sbin", "120777 lib -> usr/lib", "120777 lib64 -> usr/lib64",
		"40755 usr", "40755 usr/bin", "100755 usr/bin/ip = abc", "120777 usr/bin/awk -> mawk", "40755 usr/sbin", "120777 usr/sbin/tc -> /usr/bin/ip",
	}
	if diff := cmp.Diff(want, unpack(t, read(t, img.rootfs))); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	if got := read(t, img.vmlinuz); got != "abc" {
		t.Errorf("kernel is %q", got)
	}
}

func TestConvertNeedsAKernel(t *testing.T) {
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "image")
	err := image{vmlinuz: base + ".vmlinuz", rootfs: base + ".cpio"}.convert(&archive)
	if left, _ := filepath.Glob(base + "*"); err == nil || len(left) != 0 {
		t.Errorf("error %v, left behind %v", err, left)
	}
}

// unpack lists an archive as the kernel reads it.
func unpack(t *testing.T, archive string) []string {
	t.Helper()
	const header = 110
	field := func(i int) int {
		n, err := strconv.ParseInt(archive[6+8*i:14+8*i], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
	var out []string
	for strings.HasPrefix(archive, "070701") {
		mode, size, named := field(1), field(6), field(11)
		name, start := archive[header:header+named-1], (header+named+3)&^3
		body := archive[start : start+size]
		archive = archive[(start+size+3)&^3:]
		switch {
		case name == "TRAILER!!!":
			return out
		case mode&0o170000 == modeLink:
			body = " -> " + body
		case size > 0:
			body = " = " + body
		}
		out = append(out, fmt.Sprintf("%o %s%s", mode, name, body))
	}
	t.Fatal("the archive has no end")
	return nil
}
