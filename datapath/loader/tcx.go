package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// escape makes an interface name a file name on a BPF file system, which refuses
// dots. An interface name has no slash.
var (
	escape   = strings.NewReplacer("%", "%25", ".", "%2e")
	unescape = strings.NewReplacer("%25", "%", "%2e", ".")
)

// tcxPin is where the link of h is pinned: the ownership mark of a tcx link.
func tcxPin(root string, h hook) string {
	return filepath.Join(linkDir(root), escape.Replace(h.device)+"_"+h.direction())
}

// ensureTCX attaches prog to h by a pinned tcx link. It fails with
// ebpf.ErrNotSupported where the kernel has no tcx (before 6.6).
func ensureTCX(root string, h hook, prog *ebpf.Program) error {
	adopted, err := adoptTCX(tcxPin(root, h), h, prog)
	if adopted || err != nil {
		return err
	}
	return attachTCX(tcxPin(root, h), h, prog)
}

// adoptTCX puts prog into the pinned link, if that is still on the interface.
func adoptTCX(pin string, h hook, prog *ebpf.Program) (bool, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("look at pinned link %s: %w", pin, err)
	}
	if t := info.TCX(); t == nil || int(t.Ifindex) != h.index { // 0 once the interface is gone
		return false, nil
	}
	if is, err := sameProgram(info.Program, prog); is || err != nil {
		return is, err
	}
	if err := l.Update(prog); err != nil {
		return false, fmt.Errorf("replace program on %s: %w", h, err)
	}
	return true, nil
}

// attachTCX attaches before every other tcx program, so that none can let a
// packet pass that ours has not seen. A pin of a former interface is taken over.
func attachTCX(pin string, h hook, prog *ebpf.Program) error {
	at := ebpf.AttachTCXEgress
	if h.ingress {
		at = ebpf.AttachTCXIngress
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: h.index, Program: prog, Attach: at, Anchor: link.Head()})
	if err != nil {
		return fmt.Errorf("attach to %s: %w", h, err)
	}
	defer l.Close() // the pin keeps it
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove stale pin %s: %w", pin, err)
	}
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin link of %s: %w", h, err)
	}
	return removeFilter(h) // of a run without tcx
}

// removeTCX detaches the pinned link of h, if there is one.
func removeTCX(root string, h hook) error {
	pin := tcxPin(root, h)
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	if err := l.Unpin(); err != nil {
		return fmt.Errorf("unpin link of %s: %w", h, err)
	}
	if err := l.Detach(); err != nil && !errors.Is(err, ebpf.ErrNotSupported) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errLinkGone) {
		return fmt.Errorf("detach from %s: %w", h, err)
	}
	return nil
}

// listTCX returns the pinned links: by interface name, the name of a program.
func listTCX(root string) (map[string]string, error) {
	entries, err := os.ReadDir(linkDir(root))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list pinned links: %w", err)
	}
	out := make(map[string]string)
	for _, e := range entries {
		name, direction, ok := cutLast(e.Name(), "_")
		if !ok || (direction != "ingress" && direction != "egress") {
			continue // not a pin of ours
		}
		prog, err := pinnedProgram(filepath.Join(linkDir(root), e.Name()))
		if err != nil {
			return nil, err
		}
		out[unescape.Replace(name)] = prog
	}
	return out, nil
}

// pinnedProgram returns the name of the program that a pinned link runs.
func pinnedProgram(pin string) (string, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return "", fmt.Errorf("open pinned link %s: %w", pin, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return "", fmt.Errorf("look at pinned link %s: %w", pin, err)
	}
	prog, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return "", fmt.Errorf("open program of pinned link %s: %w", pin, err)
	}
	defer prog.Close()
	i, err := prog.Info()
	if err != nil {
		return "", fmt.Errorf("look at program of pinned link %s: %w", pin, err)
	}
	return i.Name, nil
}

func sameProgram(id ebpf.ProgramID, prog *ebpf.Program) (bool, error) {
	info, err := prog.Info()
	if err != nil {
		return false, fmt.Errorf("look at loaded program: %w", err)
	}
	have, _ := info.ID() // always there since 4.13
	return have == id, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
