package bpfmap

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/mesh"
	"github.com/plexusmesh/plexus/policy"
)

// errNoSpace is what the kernel answers when a map is full.
const errNoSpace = unix.ENOSPC

// Policy is the pair of maps that new flows are judged by: verdicts, and the
// identities of the CIDR peers that they name.
type Policy struct {
	verdicts slots
	cidrs    slots
	revision *revision
}

// Ruleset is what one revision of the policy says: the parts of
// [policy.Verdicts] that the kernel needs.
type Ruleset struct {
	Entries  map[policy.Key]policy.Entry
	Prefixes map[netip.Prefix]mesh.Identity
}

// Revision returns the revision in force. It grows with every change that has
// flows judged again; 0 means that there was none yet. Before the first Load,
// every flow but those of pinholes is dropped.
func (p *Policy) Revision() (uint32, error) { return p.revision.get() }

// Rejudge has every known flow judged again at its next packet, and returns the
// new revision.
func (p *Policy) Rejudge() (uint32, error) { return p.revision.rejudge() }

// Load puts rules in force, all at once, and returns their revision. Known flows
// are judged again at their next packet. After an error the rules before are
// still in force, whole.
func (p *Policy) Load(rules Ruleset) (uint32, error) {
	if err := (policy.Verdicts{Entries: rules.Entries, Prefixes: rules.Prefixes}).Fits(); err != nil {
		return 0, fmt.Errorf("load policy: %w", err)
	}
	p.revision.mu.Lock()
	defer p.revision.mu.Unlock()
	now, err := p.revision.get()
	if err != nil {
		return 0, err
	}
	spare := (now + 1) % 2
	if err := p.verdicts.replace(spare, func(m *ebpf.Map) error { return fillVerdicts(m, rules.Entries) }); err != nil {
		return 0, err
	}
	if err := p.cidrs.replace(spare, func(m *ebpf.Map) error { return fillPrefixes(m, rules.Prefixes) }); err != nil {
		return 0, err
	}
	return p.revision.advanceLocked(1)
}

// List returns the rules in force. Without any, both maps are empty.
func (p *Policy) List() (Ruleset, error) {
	rules := Ruleset{Entries: make(map[policy.Key]policy.Entry), Prefixes: make(map[netip.Prefix]mesh.Identity)}
	p.revision.mu.Lock() // so that the slot is not replaced meanwhile
	defer p.revision.mu.Unlock()
	now, err := p.revision.get()
	if err != nil {
		return Ruleset{}, err
	}
	err = errors.Join(
		p.verdicts.read(now%2, func(m *ebpf.Map) error { return readVerdicts(m, rules.Entries) }),
		p.cidrs.read(now%2, func(m *ebpf.Map) error { return readPrefixes(m, rules.Prefixes) }))
	if err != nil {
		return Ruleset{}, fmt.Errorf("list policy: %w", err)
	}
	return rules, nil
}

// replace puts a fresh map that fill has filled into a slot that nobody reads.
func (s slots) replace(slot uint32, fill func(*ebpf.Map) error) error {
	m, err := s.fresh()
	if err != nil {
		return err
	}
	defer m.Close() // the slot keeps it alive
	if err := fill(m); err != nil {
		return err
	}
	if err := s.outer.Update(slot, m, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("put policy map into slot %d: %w", slot, err)
	}
	return nil
}

// read calls fn with the map in a slot, and not at all while there is none.
func (s slots) read(slot uint32, fn func(*ebpf.Map) error) error {
	m, err := s.open(slot)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.Close()
	return fn(m)
}
