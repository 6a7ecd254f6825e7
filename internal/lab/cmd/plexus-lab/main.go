// Command plexus-lab builds test hosts for shell scripts with the same harness
// that the Go tests use.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/plexusmesh/plexus/internal/lab"
)

const usage = `usage: plexus-lab COMMAND
  up [-hosts N] [-ipv6=false] PREFIX   build a lab and leave it running
  hosts PREFIX                         print each host's name, IPv4 address and, if any, IPv6 address
  exec PREFIX HOST COMMAND [ARG]...    become COMMAND on the host (or in the bridge's namespace: fabric)
  link PREFIX HOST up|down             plug the host's cable in or out
  down PREFIX                          kill everything in the lab and remove it
`

var errUsage = errors.New("wrong usage")

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "plexus-lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errUsage
	}
	command, args := args[0], args[1:]
	switch {
	case command == "up":
		return up(args)
	case command == "hosts" && len(args) == 1:
		return hosts(args[0])
	case command == "exec" && len(args) >= 3:
		return become(args[0], args[1], args[2:])
	case command == "link" && len(args) == 3 && (args[2] == "up" || args[2] == "down"):
		return link(args[0], args[1], args[2] == "up")
	case command == "down" && len(args) == 1:
		return lab.Remove(args[0])
	}
	return errUsage
}

func up(args []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	count := flags.Int("hosts", 3, "number of hosts")
	ipv6 := flags.Bool("ipv6", true, "give the underlay IPv6 addresses too")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return errUsage
	}
	l, err := lab.New(lab.Options{Prefix: flags.Arg(0), Hosts: *count, IPv6: *ipv6})
	if err != nil {
		return err
	}
	return l.Detach()
}

func hosts(prefix string) error {
	l, err := lab.Open(prefix)
	if err != nil {
		return err
	}
	for _, h := range l.Hosts {
		fmt.Print(h.Name, " ", h.Addr4)
		if h.Addr6.IsValid() {
			fmt.Print(" ", h.Addr6)
		}
		fmt.Println()
	}
	return nil
}

func link(prefix, host string, up bool) error {
	h, err := open(prefix, host)
	if err != nil {
		return err
	}
	return h.SetLink(up)
}

func open(prefix, host string) (*lab.Host, error) {
	l, err := lab.Open(prefix)
	if err != nil {
		return nil, err
	}
	return l.Host(host)
}

// become replaces this process, so that a shell's $! is the command's own.
func become(prefix, host string, argv []string) error {
	h, err := open(prefix, host)
	if err != nil {
		return err
	}
	full := h.Argv(argv...)
	path, err := exec.LookPath(full[0])
	if err != nil {
		return fmt.Errorf("find %s: %w", full[0], err)
	}
	return fmt.Errorf("run %s: %w", path, syscall.Exec(path, full, h.Environ()))
}
