package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/agent/snapshot"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/state"
)

// restoreAfter is how long a start waits for etcd before it goes on with what an
// earlier run knew: meanwhile the kernel enforces what that run left there,
// which is newer than any file.
const restoreAfter = 3 * time.Second

// snapshotFile holds what this host last knew of its mesh.
func snapshotFile(stateDir string) string { return filepath.Join(stateDir, "snapshot") }

// openKeeper reads what an earlier run of e's host knew.
func openKeeper(o Options, e control.Enrolment, sources []source) (*snapshot.Keeper, error) {
	key, err := ca.ParseKey(e.KeyPEM)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range sources {
		names = append(names, s.name)
	}
	return snapshot.Open(snapshot.Options{
		Path: snapshotFile(o.Config.StateDir), Logger: o.Logger, Sources: names,
		Owner: snapshot.Owner{Cluster: e.Cluster.Name, Node: e.Node, Key: key},
	})
}

// patience is how long this start waits for etcd. After a reboot the kernel
// enforces nothing, or what the boot guard has read from the snapshot, and there
// is no tunnel: what the snapshot says is better than that at once.
func (m *member) patience() time.Duration {
	if m.kernel.fresh || m.kernel.verdicts.Empty() {
		return 0
	}
	return restoreAfter
}

// restoring lets what an earlier run knew stand in for the sources that have not
// been heard of in time.
func (m *member) restoring(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(m.patience()):
	}
	img := m.keeper.Earlier()
	if img == nil {
		return nil
	}
	for _, s := range m.sources {
		if m.restore(s, img.Sources[s.name]) {
			m.logger.Warn("etcd not heard: an earlier run stands in", "part", s.name, "saved", img.Saved)
		}
	}
	return nil
}

// restore reads values as if etcd had sent them, and reports whether they count.
func (m *member) restore(s source, values snapshot.Values) bool {
	if values == nil || m.spoken(s.name) {
		return false // nothing of it was kept, or it is not needed
	}
	var changes []change // read before anybody has to wait for them
	for name, value := range values {
		c, err := s.read(name, value)
		m.unrestored.note(s.name+"/"+name, err)
		if c != nil {
			changes = append(changes, c)
		}
	}
	return m.store.Restore(s.name, func(t *state.Tables) {
		for _, c := range changes {
			c(t)
		}
	})
}

// spoken reports whether etcd itself was heard about a source.
func (m *member) spoken(name string) bool {
	return slices.ContainsFunc(m.store.Snapshot().Sources, func(s state.Source) bool { return s.Name == name && s.Synced })
}

// unreadable returns the names of a source whose last word, restored from an
// earlier run, this agent does not understand. Of what etcd says, nothing counts
// that does not count whole.
func (m *member) unreadable(s state.Snapshot, source string) []string {
	for _, src := range s.Sources {
		if src.Name == source && src.Restored {
			return m.unrestored.names(source)
		}
	}
	return nil
}

// restoredWarnings say that this host goes by what an earlier run knew, or why
// it cannot.
func (m *member) restoredWarnings(s state.Snapshot) []api.Warning {
	var out []api.Warning
	if img := m.keeper.Earlier(); img != nil && s.Restored() {
		out = append(out, api.Warning{Code: "state-restored", Severity: "warning", Text: fmt.Sprintf(
			"etcd has not been heard since plexusd started: what this host knew %s ago, at %s, is in force until it is",
			time.Since(img.Saved).Round(time.Second), img.Saved.Format(time.RFC3339))})
		for _, err := range m.unrestored.List() {
			out = append(out, api.Warning{Code: "entry-refused", Severity: "warning", Text: err.Error()})
		}
	}
	if err := m.keeper.Refused(); err != nil {
		out = append(out, api.Warning{Code: "snapshot-refused", Severity: "warning", Text: fmt.Sprintf(
			"%v: this host can plan only once it hears etcd, and writes a new snapshot then", err)})
	}
	if err := m.keeper.Failed(); err != nil {
		out = append(out, api.Warning{Code: "snapshot-not-saved", Severity: "warning", Text: fmt.Sprintf(
			"what this host knows is not on disk, and would be missing after a restart without etcd: make room for it: %v", err)})
	}
	return out
}
