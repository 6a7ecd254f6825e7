package encryption

import "fmt"

// Overhead is how many bytes a WireGuard packet is longer than the packet that
// it carries, at most: 40 for an IPv6 header, 8 for UDP, 16 for the WireGuard
// data header and 16 for the authentication tag.
//
// Padding to 16 bytes adds nothing at full size, because WireGuard (kernel and
// wireguard-go) never pads beyond the MTU of its device. Cilium reserves 95: it
// sets the MTU of routes, which the padding does not know, and so allows for 15
// bytes more. We set the MTU of the device.
const Overhead = 80

// MinMTU is the least MTU on which Linux runs IPv6 at all (RFC 8200, section 5).
const MinMTU = 1280

// MTU returns the MTU of the tunnel device for the smallest MTU among the
// uplinks, both in bytes. It is never under [MinMTU], because the mesh needs
// IPv6; what the uplink cannot carry whole is then fragmented, and warning,
// otherwise "", says so.
func MTU(uplink, overhead int) (mtu int, warning string) {
	if mtu = uplink - overhead; mtu >= MinMTU {
		return mtu, ""
	}
	return MinMTU, fmt.Sprintf("uplink MTU %d leaves %d bytes inside the tunnel, but IPv6 needs %d: large packets are fragmented; raise the uplink MTU to %d or more",
		uplink, mtu, MinMTU, MinMTU+overhead)
}
