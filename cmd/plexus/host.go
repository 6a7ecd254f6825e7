package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plexusmesh/plexus/identity"
	"github.com/plexusmesh/plexus/mesh"
)

// host holds the flags that init and join share.
type host struct {
	nodeName  string
	advertise []string
}

func (h *host) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.nodeName, "node-name", "", "name of this host in the mesh (default: its host name)")
	cmd.Flags().StringSliceVar(&h.advertise, "advertise", nil, "node `address` at which others reach this host; repeat for more (default: found on its interfaces)")
}

// parse checks what the flags say.
func (h *host) parse() (name string, advertise []netip.Addr, err error) {
	name = h.nodeName
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return "", nil, fmt.Errorf("read host name: %w: set one with --node-name", err)
		}
		name = strings.ToLower(name)
	}
	if err := mesh.ValidateNodeName(name); err != nil {
		return "", nil, asUsage(err)
	}
	for _, s := range h.advertise {
		a, err := parseUnicast(s)
		if err != nil {
			return "", nil, asUsage(err)
		}
		advertise = append(advertise, a)
	}
	return name, advertise, nil
}

func parseUnicast(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("address %q of --advertise is malformed: want one like 192.0.2.1 or 2001:db8::1", s)
	}
	a = a.Unmap()
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.Zone() != "" {
		return a, fmt.Errorf("address %s of --advertise cannot be reached from other hosts: use one of the network that they share", s)
	}
	return a, nil
}

// parsePool checks the CIDR that mesh addresses are taken from.
func parsePool(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || !p.Addr().Is4():
		return "", fmt.Errorf("pool %q of --pool4 is malformed: want an IPv4 CIDR like 10.210.0.0/16", s)
	case p != p.Masked():
		return "", fmt.Errorf("pool %s of --pool4 has host bits: write %s", s, p.Masked())
	case p.Bits() < 8 || p.Bits() > 28:
		return "", fmt.Errorf("pool %s of --pool4 is out of range: use a prefix length of 8 to 28", s)
	}
	return p.String(), nil
}

// labelled holds the flags that say which identity hosts get.
type labelled struct {
	labels    []string
	namespace string
}

func (l *labelled) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&l.labels, "label", nil, "`key=value` that hosts get; repeat for more")
	cmd.Flags().StringVar(&l.namespace, "namespace", identity.DefaultNamespace, "namespace that hosts belong to")
}

func (l *labelled) parse() (map[string]string, error) {
	if err := identity.ValidateNamespace(l.namespace); err != nil {
		return nil, asUsage(err)
	}
	labels, err := identity.ParseLabelArgs(l.labels)
	return labels, asUsage(err)
}
