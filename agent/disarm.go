package agent

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/plexusmesh/plexus/agent/api"
)

// disarmedFile exists while an administrator of this host has suspended policy.
func disarmedFile(stateDir string) string { return filepath.Join(stateDir, "disarmed") }

// suspension says since when policy is suspended on this host, and why.
type suspension struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// loadSuspension reads the file. That it exists counts, whatever it holds: a host
// that was opened must not close because of a damaged disk.
func loadSuspension(stateDir string) *suspension {
	s, err := readJSON[suspension](disarmedFile(stateDir))
	if err != nil {
		return &suspension{Since: time.Now(), Reason: fmt.Sprintf("(not known any more: %v)", err)}
	}
	return s
}

// disarm opens this host and has it stay open, and answers once the kernel does.
// It needs neither etcd nor a plan, and asks the kernel before the disk, which may
// hang.
func (m *member) disarm(reason string) (suspension, error) {
	m.arming.Lock()
	defer m.arming.Unlock()
	s := suspension{Since: time.Now(), Reason: reason}
	if now := m.suspended(); now != nil {
		s.Since = now.Since
	}
	m.setSuspended(&s)
	refused := m.kernel.verdicts.Suspend()
	if refused == nil {
		m.logger.Error("POLICY IS SUSPENDED on this host: every flow passes until plexus arm", "reason", reason)
	}
	unsaved := writeJSON(disarmedFile(m.opts.Config.StateDir), &s)
	switch {
	case refused != nil:
		return s, fmt.Errorf("policy is not suspended yet: the kernel does not take it, and is asked again and again: stop plexusd and run plexusd cleanup, which removes it: %w", refused)
	case unsaved != nil:
		return s, fmt.Errorf("policy is suspended, but a restart of plexusd puts it back: %w", unsaved)
	}
	return s, nil
}

// arm ends a suspension: the next plan puts policy back. It returns what it
// ended, nil for nothing.
func (m *member) arm() (*suspension, error) {
	m.arming.Lock()
	defer m.arming.Unlock()
	before := m.suspended()
	if before == nil {
		return nil, nil
	}
	if err := writeJSON[suspension](disarmedFile(m.opts.Config.StateDir), nil); err != nil {
		return nil, fmt.Errorf("policy stays suspended: %w", err)
	}
	m.kernel.verdicts.Resume()
	m.setSuspended(nil)
	m.logger.Warn("policy is in force again", "suspendedSince", before.Since, "reason", before.Reason)
	return before, nil
}

func (m *member) suspended() *suspension {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.suspension
}

func (m *member) setSuspended(s *suspension) {
	m.mu.Lock()
	m.suspension = s
	m.mu.Unlock()
	signal(m.news)
}

// suspend has the kernel open from the start where it is to stay open.
func (m *member) suspend() {
	s := m.suspended()
	if s == nil {
		return
	}
	m.logger.Error("POLICY IS SUSPENDED on this host: every flow passes until plexus arm", "since", s.Since, "reason", s.Reason)
	if err := m.kernel.verdicts.Suspend(); err != nil {
		m.logger.Error("suspended policy still in the kernel: trying again with the next plan", "error", err)
	}
}

// disarmedWarnings say that policy is suspended, not suspended yet, or not back in
// force yet.
func disarmedWarnings(s *suspension, stage policyStage) []api.Warning {
	switch {
	case s != nil && !stage.Disarmed:
		return []api.Warning{{Code: "not-disarmed-yet", Severity: "error",
			Text: "policy was suspended with plexus disarm, but is still in force: the kernel does not take it, which other warnings tell more about; plexusd cleanup removes it once plexusd is stopped"}}
	case s != nil:
		text := fmt.Sprintf("POLICY IS SUSPENDED on this host since %s", s.Since.Format(time.RFC3339))
		if s.Reason != "" {
			text += " (" + s.Reason + ")"
		}
		return []api.Warning{{Code: "disarmed", Severity: "error", Text: text + ": every flow passes; plexus arm puts policy back"}}
	case stage.Disarmed:
		return []api.Warning{{Code: "not-armed-yet", Severity: "error",
			Text: "policy was put back with plexus arm, but every flow still passes: what the mesh wants is not known yet, or the kernel does not take it; other warnings say why"}}
	}
	return nil
}
