package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/plexusmesh/plexus/agent/api"
	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/plan"
	"github.com/plexusmesh/plexus/state"
)

// warnings collects what a person should know, from every part.
func (m *member) warnings(d *plan.Desired, s state.Snapshot) []api.Warning {
	var out []api.Warning
	add := func(code, severity, text string) {
		out = append(out, api.Warning{Code: code, Severity: severity, Text: text})
	}
	for _, mir := range m.mirrors {
		if st := mir.Status(); st.Err != nil {
			out = append(out, m.unread(st.Err))
			break // the others say the same
		}
	}
	for _, h := range m.conductor.Health() {
		if h.Err != nil {
			add("resource-failing", "error", h.Err.Error())
		}
	}
	for _, err := range m.refused.List() {
		add("entry-refused", "warning", err.Error())
	}
	if st := m.publisher.Status(); st.Err != nil {
		add("claim-pending", "warning", fmt.Sprintf("this host's claim is not written yet: %v", st.Err))
	}
	if d != nil {
		for _, w := range d.Warnings {
			add(w.Code, "warning", w.Text)
		}
	}
	if m.blind(s) || len(m.refused.names("policies")) > 0 {
		add("policy-unreadable", "error", "some policy cannot be understood by this agent, so that the policies of the last revision that could be stay in force, whole: upgrade plexusd")
	}
	return slices.Concat(disarmedWarnings(m.suspended(), m.kernel.verdicts.Stage()), m.servingWarnings(), out, m.sweeper.look().pressureWarnings(),
		m.probation.warnings(s.Revision), m.restoredWarnings(s), m.ownWarnings())
}

// unread says why etcd cannot be read: it is away, or it does not take this host
// for a member any more, which then never hears of its own removal.
func (m *member) unread(err error) api.Warning {
	if errors.Is(err, kvstore.ErrPermission) || errors.Is(err, kvstore.ErrUnauthenticated) {
		return api.Warning{Code: "access-refused", Severity: "error",
			Text: fmt.Sprintf("the mesh refuses this host: it was removed, or its certificate was revoked; what was in force stays so: leave with plexus leave --force and join again: %v", err)}
	}
	return api.Warning{Code: "etcd-unreachable", Severity: "warning",
		Text: fmt.Sprintf("etcd cannot be read (%s): what is known stays in force: %v", strings.Join(m.enrolment.Etcd, ", "), err)}
}

func (m *member) ownWarnings() []api.Warning {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []api.Warning
	if m.unlisted {
		out = append(out, api.Warning{Code: "not-in-mesh", Severity: "error",
			Text: "the mesh does not know this host: it was removed, or its identity is gone; what was in force stays so: leave with plexus leave --force and join again"})
	}
	if m.uplinks != nil && len(m.uplinks.Uplinks) == 0 {
		out = append(out, api.Warning{Code: "no-uplink", Severity: "error",
			Text: "no network interface is managed: none has a default route or a global address; name them with the setting interfaces"})
	}
	for _, p := range m.own.Problems {
		out = append(out, api.Warning{Code: "local-policy-refused", Severity: "error", Text: p.Error()})
	}
	if omitted := m.failsafe.Omits(); len(omitted) > 0 {
		out = append(out, api.Warning{Code: "failsafe-omits", Severity: "warning", Text: fmt.Sprintf(
			"the setting failsafe opens nothing for %s: a policy can cut this host from its mesh", strings.Join(omitted, " and "))})
	}
	if m.reported != nil {
		out = append(out, api.Warning{Code: "address-unseen", Severity: "warning", Text: m.reported.Error()})
	}
	return out
}
