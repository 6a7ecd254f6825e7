package facts

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// socket is a line of /proc/net/tcp, udp and their IPv6 twins
// (Documentation/networking/proc_net_tcp.rst).
type socket struct {
	local netip.AddrPort
	state string // as procfs prints it, hexadecimal
	uid   string
	inode string
}

// States that make a socket wait for whoever comes (include/net/tcp_states.h).
const (
	tcpListen = "0A"
	udpBound  = "07" // TCP_CLOSE: bound, and connected to nobody
)

// readSockets returns the sockets in a file below proc, none where the kernel
// has no such protocol.
func readSockets(proc, file string) ([]socket, error) {
	f, err := os.Open(filepath.Join(proc, "self/net", file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer f.Close()
	all, err := parseSockets(f)
	if err != nil {
		return nil, fmt.Errorf("list sockets in %s: %w", f.Name(), err)
	}
	return all, nil
}

func parseSockets(r io.Reader) ([]socket, error) {
	var out []socket
	lines := bufio.NewScanner(r)
	lines.Scan() // the heading
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		local, err := parseLocal(fields[1])
		if err != nil {
			return nil, err
		}
		out = append(out, socket{local: local, state: fields[3], uid: fields[7], inode: fields[9]})
	}
	return out, lines.Err()
}

// parseLocal reads "0100007F:1F90": the address as words of four bytes in the
// order of this machine, the port as a number.
func parseLocal(text string) (netip.AddrPort, error) {
	address, number, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	port, portErr := strconv.ParseUint(number, 16, 16)
	if err != nil || portErr != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("decode local address %q: not as this kernel's documentation has it", text)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	a, _ := netip.AddrFromSlice(raw) // of 4 or 16 bytes
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
}
