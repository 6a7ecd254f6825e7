package lab

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

//go:embed holder.sh
var holderScript string

// holder is the process that keeps one host's namespaces alive.
type holder struct {
	cmd *exec.Cmd
}

// startHolder returns once the namespaces are ready for use.
func startHolder(name, mark string, noIPv6 bool) (*holder, error) {
	off := "0"
	if noIPv6 {
		off = "1"
	}
	cmd := exec.Command("unshare", "--net", "--mount", "--uts", "--propagation", "private",
		"sh", "-c", holderScript, "plexus-lab", name, off)
	cmd.Env = append(os.Environ(), holderEnv+"="+mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // survives a Ctrl-C, so that Close can clean up in order
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open pipe to host %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start host %s: %w", name, err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		err = errors.Join(err, cmd.Wait())
		return nil, fmt.Errorf("make namespaces of host %s (root needed): %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return &holder{cmd: cmd}, nil
}

func (h *holder) pid() int { return h.cmd.Process.Pid }
