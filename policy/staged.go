package policy

import "slices"

// inForce returns the selections that have effect: all but those of staged
// rules, which only [Verdicts.Staged] counts.
func inForce(selecting []selection) []selection {
	if !slices.ContainsFunc(selecting, selection.staged) {
		return selecting
	}
	return slices.DeleteFunc(slices.Clone(selecting), selection.staged)
}

func (s selection) staged() bool { return s.rule.Staged }
