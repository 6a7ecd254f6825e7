package agent

import (
	"errors"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/plan"
)

// shelf is a map of the datapath that can fail its next call.
type shelf struct {
	have map[string]int
	fail error
}

func (s *shelf) list() (map[string]int, error) { return maps.Clone(s.have), s.take() }

func (s *shelf) apply(upsert map[string]int, remove []string) error {
	if err := s.take(); err != nil {
		return err
	}
	maps.Copy(s.have, upsert)
	for _, k := range remove {
		delete(s.have, k)
	}
	return nil
}

func (s *shelf) take() error {
	err := s.fail
	s.fail = nil
	return err
}

func tableOf(s *shelf, want *map[string]int) *table[string, int] {
	return &table[string, int]{
		name: "shelf", list: s.list, apply: s.apply,
		want: func(plan.Desired) map[string]int { return *want },
	}
}

// pass runs Ensure and Prune once.
func pass(t *testing.T, tb *table[string, int], orphans bool) error {
	t.Helper()
	return errors.Join(tb.Ensure(t.Context(), plan.Desired{}), tb.Prune(t.Context(), plan.Desired{}, orphans))
}

func TestATableRemovesAtOnceWhatThisRunWanted(t *testing.T) {
	s := &shelf{have: map[string]int{"left": 9}}
	want := map[string]int{"a": 1, "b": 2}
	tb := tableOf(s, &want)
	if err := pass(t, tb, false); err != nil {
		t.Fatal(err)
	}
	want = map[string]int{"a": 3}
	if err := pass(t, tb, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"a": 3, "left": 9}, s.have); diff != "" {
		t.Errorf("before all sources synced: %s", diff)
	}
	if err := pass(t, tb, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"a": 3}, s.have); diff != "" {
		t.Errorf("after all sources synced: %s", diff)
	}
}

// Whichever call fails, the next pass ends where it would have ended without.
func TestATableRecoversFromEveryFailure(t *testing.T) {
	for _, failAt := range []string{"ensure", "prune"} {
		s := &shelf{have: map[string]int{}}
		want := map[string]int{"a": 1, "b": 2}
		tb := tableOf(s, &want)
		if err := pass(t, tb, true); err != nil {
			t.Fatal(err)
		}
		want = map[string]int{"b": 3}
		if failAt == "prune" {
			if err := tb.Ensure(t.Context(), plan.Desired{}); err != nil {
				t.Fatal(err)
			}
			s.fail = errors.New("planted")
			if err := tb.Prune(t.Context(), plan.Desired{}, false); err == nil {
				t.Error("the failure of prune is not reported")
			}
		} else {
			s.fail = errors.New("planted")
			if err := tb.Ensure(t.Context(), plan.Desired{}); err == nil {
				t.Error("the failure of ensure is not reported")
			}
		}
		if err := pass(t, tb, false); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int{"b": 3}, s.have); diff != "" {
			t.Errorf("after a failure in %s: %s", failAt, diff)
		}
	}
}
