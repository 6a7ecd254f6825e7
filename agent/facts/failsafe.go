package facts

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

// The groups of pinholes whose ports come from facts.
const (
	groupWireGuard = "wireguard"
	groupDHCP      = "dhcp"
	groupServers   = "servers"
	groupSSH       = "ssh"
)

// groups are all of them, in the order in which people read them.
var groups = []string{groupWireGuard, groupDHCP, groupServers, groupSSH}

// none is the entry that stands for no pinhole at all.
const none = "none"

// maxFailsafe bounds the entries, and the prefixes that they name: a pinhole is
// an exception, and the map of them is small.
const maxFailsafe = 256

// Failsafe says which new flows pass whatever policy says. Its zero value lets
// none pass.
type Failsafe struct {
	groups map[string]limits // by name; one that is not here is closed
	ports  []datapath.Pinhole
}

// limits are the remotes that a group of pinholes is open to, by the direction
// of the flow. None stands for everybody.
type limits [2][]netip.Prefix

// DefaultFailsafe is what keeps a host part of its mesh, and its operator in
// reach. The caller may change it.
func DefaultFailsafe() []string { return slices.Clone(groups) }

// ParseFailsafe reads the setting "failsafe". Each entry is a group ("wireguard",
// "dhcp", "servers", "ssh"), a port ("ingress 8443/TCP", "egress 53/UDP"), or
// "none", which stands alone; no entry means the same. "from" and "to", followed
// by prefixes or addresses with commas between them, limit the remotes of flows
// that come in and that go out; a group that is limited in one direction stays
// open to everybody in the other. A group may stand several times, with other
// limits each time. An entry of prefixes alone continues the entry before it, so
// that what an environment variable or a flag cuts at commas reads the same.
//
// An error names the entry and says what to write.
func ParseFailsafe(entries []string) (Failsafe, error) {
	entries = rejoin(entries)
	if len(entries) == 0 || len(entries) == 1 && entries[0] == none {
		return Failsafe{}, nil
	}
	if len(entries) > maxFailsafe {
		return Failsafe{}, fmt.Errorf("failsafe has %d entries: use at most %d", len(entries), maxFailsafe)
	}
	f := Failsafe{groups: make(map[string]limits)}
	var errs []error
	for _, text := range entries {
		if err := f.add(text); err != nil {
			errs = append(errs, fmt.Errorf("failsafe entry %.120q: %w", text, err))
		}
	}
	if n := f.prefixes(); n > maxFailsafe {
		errs = append(errs, fmt.Errorf("failsafe names %d ports and prefixes: use at most %d", n, maxFailsafe))
	}
	if len(errs) > 0 {
		return Failsafe{}, errors.Join(errs...)
	}
	return f, nil
}

// rejoin puts entries that are prefixes alone behind the entry that they continue.
func rejoin(entries []string) []string {
	var out []string
	for _, text := range entries {
		text = strings.Join(strings.Fields(text), " ")
		first, _, _ := strings.Cut(text, ",")
		if _, err := datapath.ParseRemote(first); err == nil && len(out) > 0 {
			out[len(out)-1] += "," + text
			continue
		}
		out = append(out, text)
	}
	return out
}

func (f *Failsafe) add(text string) error {
	head, limit, err := parseEntry(text)
	if err != nil {
		return err
	}
	if slices.Contains(groups, head) {
		return f.addGroup(head, limit)
	}
	switch strings.Fields(head + " .")[0] {
	case policy.Ingress.String(), policy.Egress.String():
		return f.addPort(head, limit)
	case none:
		return errors.New("none stands alone: remove the other entries, or this one")
	}
	return fmt.Errorf("%.40q is unknown: use %s, a port such as \"ingress 8443/TCP\", or none", head, strings.Join(groups, ", "))
}

// parseEntry cuts an entry into what it opens and to whom.
func parseEntry(text string) (head string, _ limits, _ error) {
	var out limits
	direction, limited := policy.Ingress, false
	for _, word := range strings.Fields(strings.ReplaceAll(text, ",", " ")) {
		switch {
		case word == "from" || word == "to":
			if limited && len(out[direction]) == 0 {
				return "", limits{}, errNoPrefix
			}
			limited, direction = true, policy.Ingress
			if word == "to" {
				direction = policy.Egress
			}
		case !limited:
			head = strings.TrimPrefix(head+" "+word, " ")
		default:
			p, err := datapath.ParseRemote(word)
			if err != nil {
				return "", limits{}, err
			}
			out[direction] = append(out[direction], p)
		}
	}
	if limited && len(out[direction]) == 0 {
		return "", limits{}, errNoPrefix
	}
	return head, out, nil
}

var errNoPrefix = errors.New("from and to are followed by prefixes: write \"from 192.0.2.0/24\"")

func (l limits) open() bool { return len(l[policy.Ingress])+len(l[policy.Egress]) == 0 }

func (f *Failsafe) addGroup(name string, limit limits) error {
	if name == groupSSH && len(limit[policy.Egress]) > 0 {
		return errors.New("flows to an SSH server of this host come in: write from instead of to")
	}
	before, twice := f.groups[name]
	if twice && (before.open() || limit.open()) {
		return fmt.Errorf("%s stands twice, at least once without a prefix, which is for everybody: keep the one that you mean", name)
	}
	for d := range limit {
		before[d] = append(before[d], limit[d]...)
	}
	f.groups[name] = before
	return nil
}

func (f *Failsafe) addPort(head string, limit limits) error {
	h, err := datapath.ParsePinhole(head)
	if err != nil {
		return err
	}
	if len(limit[1-h.Direction]) > 0 {
		return errors.New("write from for ingress, and to for egress")
	}
	f.ports = append(f.ports, widen(h, limit[h.Direction])...)
	return nil
}

// widen returns h for each of the remotes, or for everybody where there is none.
func widen(h datapath.Pinhole, remotes []netip.Prefix) []datapath.Pinhole {
	if len(remotes) == 0 {
		return []datapath.Pinhole{h}
	}
	var out []datapath.Pinhole
	for _, p := range remotes {
		h.Remote = p
		out = append(out, h)
	}
	return out
}

func (f *Failsafe) prefixes() int {
	n := len(f.ports)
	for _, l := range f.groups {
		n += len(l[policy.Ingress]) + len(l[policy.Egress])
	}
	return n
}

// Omits returns the groups without which policy can cut this host from its mesh,
// and that are not open: "wireguard", "servers", both or none of them. What is
// open to some prefixes counts as open.
func (f Failsafe) Omits() []string {
	var out []string
	for _, name := range []string{groupWireGuard, groupServers} {
		if _, open := f.groups[name]; !open {
			out = append(out, name)
		}
	}
	return out
}

// PeerRemotes returns where peers must be for the WireGuard ports that they chose
// to be open to them (plan.Local.PeerPinholes): the zero Prefix is anywhere, no
// prefix is nowhere.
func (f Failsafe) PeerRemotes() []netip.Prefix {
	l, open := f.groups[groupWireGuard]
	switch {
	case !open:
		return nil
	case len(l[policy.Egress]) == 0:
		return []netip.Prefix{{}}
	}
	return slices.Clone(l[policy.Egress])
}
