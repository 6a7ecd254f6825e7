package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	nl "github.com/vishvananda/netlink"
	diag "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// timeWait is the state of a socket that the kernel keeps for nobody.
const timeWait = 6

// End ends every connection from one of those addresses, in the network
// namespace that it is called in, once the addresses are gone: IPv6 would send
// what is still to be sent by whatever route is left. Programs read ECONNABORTED.
// Those that only wait for connections keep waiting. It wraps unix.EOPNOTSUPP
// where the kernel is built without INET_DIAG_DESTROY.
func End(from []netip.Addr) error {
	if len(from) == 0 {
		return nil
	}
	var errs []error
	for _, t := range []struct {
		protocol uint8
		read     func(family uint8) ([]*nl.Socket, error)
	}{{unix.IPPROTO_TCP, nl.SocketDiagTCP}, {unix.IPPROTO_UDP, nl.SocketDiagUDP}} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			sockets, err := t.read(family)
			if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
				errs = append(errs, fmt.Errorf("list sockets of protocol %d: %w", t.protocol, err))
			}
			for _, s := range sockets {
				if s.State != listening && s.State != timeWait && slices.Contains(from, end(s.ID.Source, 0).Addr()) {
					errs = append(errs, destroy(t.protocol, s))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func destroy(protocol uint8, s *nl.Socket) error {
	req := diag.NewNetlinkRequest(diag.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddData(&destroyRequest{protocol: protocol, socket: s})
	_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) { // it has ended by itself
		return fmt.Errorf("end connection from %s to %s: %w", end(s.ID.Source, s.ID.SourcePort), end(s.ID.Destination, s.ID.DestinationPort), err)
	}
	return nil
}

// destroyRequest is struct inet_diag_req_v2 of include/uapi/linux/inet_diag.h,
// naming one socket.
type destroyRequest struct {
	protocol uint8
	socket   *nl.Socket
}

func (r *destroyRequest) Len() int { return 56 }

func (r *destroyRequest) Serialize() []byte {
	id := r.socket.ID
	b := []byte{r.socket.Family, r.protocol, 0, 0}
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // in whatever state it is
	b = binary.BigEndian.AppendUint16(b, id.SourcePort)
	b = binary.BigEndian.AppendUint16(b, id.DestinationPort)
	for _, ip := range [][]byte{id.Source, id.Destination} {
		var field [16]byte
		if r.socket.Family == unix.AF_INET { // which net.IP may keep in its long form
			ip = ip[max(0, len(ip)-4):]
		}
		copy(field[:], ip)
		b = append(b, field[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, id.Interface)
	b = binary.NativeEndian.AppendUint32(b, id.Cookie[0])
	return binary.NativeEndian.AppendUint32(b, id.Cookie[1])
}
