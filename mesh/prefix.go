package mesh

import "net/netip"

// HostPrefix returns the prefix that holds a alone.
func HostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
