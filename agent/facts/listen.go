package facts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
)

// maxListeners is how many listeners a claim holds at most (kvstore/schema
// refuses more).
const maxListeners = 256

// Found is what a look at this host finds.
type Found struct {
	SSH       []uint16        // TCP ports that an SSH server listens on, sorted
	Listening []mesh.Listener // sorted; nil where there are too many to tell
}

// Looks looks at this host again and again. A program that is being restarted
// listens nowhere for a moment, so that what the look before found still counts:
// a port goes once two looks have missed it. It is for one goroutine.
type Looks struct {
	proc   string
	named  []mesh.NamedPort
	before Found
}

// NewLooks returns one for the procfs mounted at proc, on a host that declares
// named. It reads nothing yet.
func NewLooks(proc string, named []mesh.NamedPort) *Looks { return &Looks{proc: proc, named: named} }

// Look looks. After an error the look before is that before it.
func (l *Looks) Look() (Found, error) {
	ssh, err := SSHPorts(l.proc)
	if err != nil {
		return Found{}, err
	}
	listening, err := listeners(l.proc, l.named)
	if err != nil {
		return Found{}, err
	}
	now := Found{SSH: ssh, Listening: listening}
	both := Found{
		SSH:       slices.Compact(slices.Sorted(slices.Values(slices.Concat(now.SSH, l.before.SSH)))),
		Listening: union(now.Listening, l.before.Listening),
	}
	l.before = now
	if len(both.Listening) > maxListeners {
		both.Listening = nil
	}
	return both, nil
}

// union returns what is in any of lists, sorted, and not nil.
func union(lists ...[]mesh.Listener) []mesh.Listener {
	all := append([]mesh.Listener{}, slices.Concat(lists...)...)
	slices.SortFunc(all, mesh.Listener.Compare)
	return slices.Compact(all)
}

// listeners returns the ports at which programs of this host wait for others:
// listening TCP and unconnected UDP sockets that are bound to more than loopback.
// Ports that the kernel hands out to clients are left out unless named declares
// them, since a client's socket looks the same.
func listeners(proc string, named []mesh.NamedPort) ([]mesh.Listener, error) {
	handedOut, err := handedOutPorts(proc)
	if err != nil {
		return nil, err
	}
	var out []mesh.Listener
	for _, table := range []struct{ file, protocol, state string }{
		{"tcp", "TCP", tcpListen}, {"tcp6", "TCP", tcpListen}, {"udp", "UDP", udpBound}, {"udp6", "UDP", udpBound},
	} {
		all, err := readSockets(proc, table.file)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			found := mesh.Listener{Protocol: table.protocol, Port: s.local.Port()}
			lasting := found.Port < handedOut || declared(found, named)
			if s.state == table.state && !s.local.Addr().IsLoopback() && found.Port != 0 && lasting {
				out = append(out, found)
			}
		}
	}
	return out, nil
}

func declared(l mesh.Listener, named []mesh.NamedPort) bool {
	return slices.ContainsFunc(named, func(n mesh.NamedPort) bool { return n.Port == l.Port && n.Protocol == l.Protocol })
}

// handedOutPorts returns the first port that the kernel gives to clients
// (Documentation/networking/ip-sysctl.rst, ip_local_port_range).
func handedOutPorts(proc string) (uint16, error) {
	path := filepath.Join(proc, "sys/net/ipv4/ip_local_port_range")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read the range of local ports: %w", err)
	}
	low, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	port, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("read the range of local ports in %s: %w", path, err)
	}
	return uint16(port), nil
}
