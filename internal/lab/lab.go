package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
)

// maxHosts keeps host numbers inside 192.0.2.0/24.
const maxHosts = 200

// fabricName is the name of the namespace that holds the bridge.
const fabricName = "fabric"

// Options say what to build.
type Options struct {
	// Prefix names the lab on this machine; a leftover of the same prefix is
	// removed first. 1 to 32 of a-z, 0-9 and inner dashes. Required.
	Prefix string
	// Hosts is how many hosts to make, 1 to 200. They are called host-1, host-2…
	Hosts int
	// IPv6 gives the hosts underlay addresses in 2001:db8:1::/64 too. Without it
	// they have link-local ones only.
	IPv6 bool
}

// Lab is a set of hosts on one bridge.
type Lab struct {
	// Hosts in order: Hosts[0] is host-1, 192.0.2.1 and 2001:db8:1::1.
	Hosts []*Host
	// Fabric is the namespace of the bridge, br0, with one port named after
	// each host. Nothing but tools to look at the traffic belongs there.
	Fabric *Host

	opts Options
	room *room // nil once closed, detached, or when another process owns the lab
	rec  record

	mu      sync.Mutex
	holders []*holder
	daemons []*Daemon
}

// New builds a lab. It needs root, util-linux and iproute2's kernel features,
// and returns ErrInUse while a living process owns a lab of the same prefix.
// The caller must Close it.
func New(opts Options) (*Lab, error) {
	if opts.Hosts < 1 || opts.Hosts > maxHosts {
		return nil, fmt.Errorf("lab of %d hosts: want 1 to %d", opts.Hosts, maxHosts)
	}
	r, err := enterRoom(opts.Prefix)
	if err != nil {
		return nil, err
	}
	if err := r.sweep(); err != nil {
		return nil, errors.Join(err, r.lock.Close())
	}
	l := &Lab{opts: opts, room: r, rec: record{
		Mark: rand.Text(), Outer: netNS("self"), IPv6: opts.IPv6, Hosts: map[string]int{},
	}}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	if err := l.room.write(l.rec); err != nil { // the mark first: whatever starts next can be found by it
		return err
	}
	var err error
	if l.Fabric, err = l.addHost(fabricName); err != nil {
		return err
	}
	for i := range l.opts.Hosts {
		h, err := l.addHost(hostName(i))
		if err != nil {
			return err
		}
		h.number(i, l.opts.IPv6)
		l.Hosts = append(l.Hosts, h)
	}
	if err := l.room.write(l.rec); err != nil {
		return err
	}
	return l.wire()
}

func (l *Lab) addHost(name string) (*Host, error) {
	held, err := startHolder(name, l.rec.Mark, name == fabricName)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders = append(l.holders, held)
	l.rec.Hosts[name] = held.pid()
	return &Host{Name: name, lab: l, pid: held.pid()}, nil
}

func hostName(i int) string { return fmt.Sprintf("host-%d", i+1) }

// number gives host i its underlay addresses.
func (h *Host) number(i int, ipv6 bool) {
	n := byte(i + 1)
	h.Addr4 = netip.AddrFrom4([4]byte{192, 0, 2, n})
	if ipv6 {
		h.Addr6 = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 1, 15: n})
	}
}

// Open uses a lab that another process built and detached from. Closing the
// result only forgets it; Remove takes it down.
func Open(prefix string) (*Lab, error) {
	dir, err := roomDir(prefix)
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: Options{Prefix: prefix, Hosts: len(rec.Hosts) - 1, IPv6: rec.IPv6}, rec: rec}
	for i := range l.opts.Hosts {
		h, err := l.openHost(hostName(i))
		if err != nil {
			return nil, err
		}
		h.number(i, rec.IPv6)
		l.Hosts = append(l.Hosts, h)
	}
	l.Fabric, err = l.openHost(fabricName)
	return l, err
}

func (l *Lab) openHost(name string) (*Host, error) {
	pid, err := l.rec.alive(name)
	if err != nil {
		return nil, err
	}
	return &Host{Name: name, lab: l, pid: pid}, nil
}

// Host returns the host of that name, the fabric included.
func (l *Lab) Host(name string) (*Host, error) {
	if name == fabricName {
		return l.Fabric, nil
	}
	for _, h := range l.Hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return nil, fmt.Errorf("lab %s has no host %q", l.opts.Prefix, name)
}

// Detach leaves the lab running after this process ends. Remove takes it down.
func (l *Lab) Detach() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == nil {
		return nil
	}
	lock := l.room.lock
	l.room = nil
	return lock.Close()
}

// Close kills everything that runs in the lab, detached helpers included, and
// removes its namespaces and its directory. It may be called again.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.room == nil {
		return nil
	}
	err := killAll(l.rec.Mark, l.rec.Outer)
	for _, h := range l.holders {
		_ = h.cmd.Wait() // reaps; that it was killed is no news
	}
	for _, d := range l.daemons {
		<-d.Done()
	}
	err = errors.Join(err, l.room.leave())
	l.room = nil
	return err
}

// Remove takes down the lab of that prefix, whoever built it. It is not an
// error when there is none, and ErrInUse while its owner lives.
func Remove(prefix string) error {
	dir, err := roomDir(prefix)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	r, err := enterRoom(prefix)
	if err != nil {
		return err
	}
	if err := r.sweep(); err != nil {
		return errors.Join(err, r.lock.Close())
	}
	return r.leave()
}
