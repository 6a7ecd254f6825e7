package review

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

const tcp = 6

// cuts returns what the change could cut off: the connection over which somebody
// types, and the way of hosts to the mesh's servers. What is denied before counts
// no less than what a pinhole keeps open: neither is cut.
func (r *reviewer) cuts() []Cut {
	var out []Cut
	if t := r.mesh.Terminal; t != nil {
		what := fmt.Sprintf("your own connection: from %s to %d/TCP of %s", t.Remote, t.Port, t.Host)
		for _, host := range r.cutsTerminal(*t) {
			out = append(out, Cut{host, what})
		}
	}
	out = append(out, r.cutsToServers()...)
	return append(out, r.cutsAtServers()...)
}

// cutsTerminal returns the hosts that would deny t: the one where it ends, and
// the host of the mesh at which the person sits, if it is one.
func (r *reviewer) cutsTerminal(t Terminal) []string {
	var out []string
	f := Flow{Host: t.Host, Direction: policy.Ingress, Protocol: tcp, Port: t.Port, Remote: t.Remote}
	if s, concerned := r.byHost[t.Host]; concerned && r.cut(s, f) && !passes(s.host(t.Host), f) {
		out = append(out, t.Host)
	}
	sits := func(a netip.Addr) bool { return a.Unmap() == t.Remote.Unmap() }
	from := r.find(func(h *Host) bool { return slices.ContainsFunc(h.Addresses, sits) })
	to := r.find(func(h *Host) bool { return h.Name == t.Host })
	if from == nil || to == nil {
		return out
	}
	f = Flow{Host: from.Name, Direction: policy.Egress, Protocol: tcp, Port: t.Port, Peer: to.Identity}
	if s, concerned := r.byHost[from.Name]; concerned && r.cut(s, f) && len(reached(from, []*Host{to}, f)) > 0 {
		out = append(out, from.Name)
	}
	return out
}

// find returns the first host that is, or nil.
func (r *reviewer) find(is func(*Host) bool) *Host {
	for i := range r.mesh.Hosts {
		if is(&r.mesh.Hosts[i]) {
			return &r.mesh.Hosts[i]
		}
	}
	return nil
}

// cut reports whether policy allows f before and denies it after.
func (r *reviewer) cut(s *subject, f Flow) bool {
	return judge(s.before, f, r.owners).Allowed && !judge(s.after, f, r.owners).Allowed
}

func (s *subject) host(name string) *Host {
	return s.hosts[slices.IndexFunc(s.hosts, func(h *Host) bool { return h.Name == name })]
}

// passes reports whether a pinhole of h lets f through.
func passes(h *Host, f Flow) bool {
	for _, p := range h.Pinholes {
		if p.Passes(f.Direction, f.Protocol, f.Port, f.Remote) {
			return true
		}
	}
	return false
}

// cutsToServers finds hosts that could no longer begin a flow to a server.
func (r *reviewer) cutsToServers() []Cut {
	var out []Cut
	for _, port := range r.mesh.ControlPorts {
		for _, s := range r.subjects {
			cut := r.serversCut(s, port)
			for _, h := range s.hosts {
				names := reached(h, cut, Flow{Direction: policy.Egress, Protocol: tcp, Port: port})
				if len(names) > 0 {
					out = append(out, Cut{h.Name, fmt.Sprintf("its way to the mesh's server %s at %d/TCP", some(names), port)})
				}
			}
		}
	}
	return sorted(out)
}

// serversCut returns the servers that s may reach before and not after.
func (r *reviewer) serversCut(s *subject, port uint16) []*Host {
	var out []*Host
	for i := range r.mesh.Hosts {
		server := &r.mesh.Hosts[i]
		f := Flow{Direction: policy.Egress, Protocol: tcp, Port: port, Peer: server.Identity}
		if server.Server && r.cut(s, f) {
			out = append(out, server)
		}
	}
	return out
}

// cutsAtServers finds servers that would turn hosts away.
func (r *reviewer) cutsAtServers() []Cut {
	var out []Cut
	for _, port := range r.mesh.ControlPorts {
		for _, s := range r.subjects {
			if !slices.ContainsFunc(s.hosts, func(h *Host) bool { return h.Server }) {
				continue
			}
			cut := r.clientsCut(s, port)
			for _, h := range s.hosts {
				names := reached(h, cut, Flow{Direction: policy.Ingress, Protocol: tcp, Port: port})
				if h.Server && len(names) > 0 {
					out = append(out, Cut{h.Name, fmt.Sprintf("the way of %s to its control port %d/TCP", some(names), port)})
				}
			}
		}
	}
	return sorted(out)
}

// clientsCut returns the hosts that s lets in before and not after, judging each
// identity once.
func (r *reviewer) clientsCut(s *subject, port uint16) []*Host {
	var out []*Host
	known := make(map[mesh.Identity]bool)
	for i := range r.mesh.Hosts {
		h := &r.mesh.Hosts[i]
		cut, judged := known[h.Identity]
		if !judged {
			cut = r.cut(s, Flow{Direction: policy.Ingress, Protocol: tcp, Port: port, Peer: h.Identity})
			known[h.Identity] = cut
		}
		if cut {
			out = append(out, h)
		}
	}
	return out
}

// reached returns the names of those of peers with which h would lose f, at some
// address that no pinhole is about. A host needs no network to reach itself.
func reached(h *Host, peers []*Host, f Flow) []string {
	var out []string
	for _, p := range peers {
		lost := func(a netip.Addr) bool {
			f.Remote = a
			return !passes(h, f)
		}
		if p.Name != h.Name && (len(p.Addresses) == 0 && lost(netip.Addr{}) || slices.ContainsFunc(p.Addresses, lost)) {
			out = append(out, p.Name)
		}
	}
	return out
}

func sorted(cuts []Cut) []Cut {
	slices.SortStableFunc(cuts, func(a, b Cut) int { return cmp.Compare(a.Host, b.Host) })
	return cuts
}

// some writes names, few of them.
func some(names []string) string {
	if len(names) <= maxNames+1 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
}
