package bpfmap

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/plexusmesh/plexus/datapath"
)

// Fills says how full the tables are that the agent fills; Sweep says it of those
// that the programs fill. It looks at every entry: about a microsecond each.
func (m *Maps) Fills() ([]datapath.Fill, error) {
	verdicts, err := m.Policy.fill(datapath.TableVerdicts, m.Policy.verdicts)
	prefixes, perr := m.Policy.fill(datapath.TablePrefixes, m.Policy.cidrs)
	out, errs := []datapath.Fill{verdicts, prefixes}, []error{err, perr}
	for _, t := range []struct {
		name  string
		table *ebpf.Map
	}{{datapath.TableAddresses, m.IPCache.trie}, {datapath.TablePinholes, m.Pinholes.table}, {datapath.TableExemptions, m.Exemptions.table}} {
		n, err := size(t.table)
		out, errs = append(out, datapath.Fill{Table: t.name, Used: n, Max: int(t.table.MaxEntries())}), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// fill is that of the map in force.
func (p *Policy) fill(name string, s slots) (datapath.Fill, error) {
	f := datapath.Fill{Table: name, Max: int(s.inner.MaxEntries)}
	p.revision.mu.Lock() // so that the slot is not replaced meanwhile
	defer p.revision.mu.Unlock()
	now, err := p.revision.get()
	if err != nil {
		return f, err
	}
	err = s.read(now%2, func(m *ebpf.Map) (err error) {
		f.Used, err = size(m)
		return err
	})
	return f, err
}

// size counts the entries of a map. One whose entries change meanwhile may be
// walked from its start again, but never for ever.
func size(m *ebpf.Map) (n int, err error) {
	key := make([]byte, m.KeySize())
	err = m.NextKey(nil, &key)
	for ; err == nil && n < int(m.MaxEntries()); err = m.NextKey(key, &key) {
		n++
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return n, fmt.Errorf("count entries of %s: %w", m, err)
	}
	return n, nil
}
