package wg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCappedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := &cappedFile{file: f}
	line := strings.Repeat("x", 1023) + "\n"
	for range maxLog/len(line) + 5 {
		if _, err := c.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := f.Stat(); err != nil || info.Size() != int64(5*len(line)) {
		t.Errorf("size %v, %v; want the 5 lines since the file was emptied", info.Size(), err)
	}
}

func TestFindHelperChecksTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	for name, content := range map[string]string{"empty": "", "no number": "x", "init": "1", "negative": "-1", "nobody": "4194304"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if p := findHelper(path, "wg9"); p != nil {
			t.Errorf("%s: found process %d", name, p.Pid)
		}
	}
}

func FuzzHasFlag(f *testing.F) {
	f.Add("plexusd\x00wireguard\x00--device\x00wg9")
	f.Add("--device")
	f.Add("\x00")
	f.Fuzz(func(t *testing.T, cmdline string) {
		args := strings.Split(cmdline, "\x00")
		if hasFlag(args, flagDevice, "wg9") && !strings.Contains(cmdline, "--device\x00wg9") {
			t.Errorf("%q has the flag", cmdline)
		}
	})
}
