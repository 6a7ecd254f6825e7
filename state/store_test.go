package state

import (
	"testing"

	"github.com/plexusmesh/plexus/mesh"
)

func node(name, version string) mesh.Node {
	return mesh.Node{Name: name, Cluster: mesh.Cluster{Name: "east", ID: 1}, Version: version}
}

func put(n mesh.Node) func(*Tables) {
	return func(t *Tables) { t.Nodes[n.ID()] = n }
}

func TestTheSourceNamedFirstIsBelieved(t *testing.T) {
	for _, order := range [][]string{{"own", "remote"}, {"remote", "own"}} { // of arrival
		s := New("own", "remote")
		for _, source := range order {
			s.Update(source, put(node("web", "from "+source)))
		}
		if got := s.Snapshot().Nodes["east/web"].Version; got != "from own" {
			t.Errorf("pushed in order %v: believed %q, want the first source", order, got)
		}
	}
}

func TestWhatALowerSourceSaysShowsOnceTheHigherIsSilent(t *testing.T) {
	s := New("own", "remote")
	s.Update("own", put(node("web", "own")))
	s.Update("remote", put(node("web", "remote")))
	s.Update("own", func(t *Tables) { delete(t.Nodes, "east/web") })
	if got := s.Snapshot().Nodes["east/web"].Version; got != "remote" {
		t.Errorf("believed %q, want the remaining source", got)
	}
}

func TestSnapshotsDoNotChange(t *testing.T) {
	s := New("own")
	s.Update("own", put(node("web", "1")))
	before := s.Snapshot()
	s.Update("own", put(node("web", "2")))
	s.Update("own", put(node("db", "1")))
	if len(before.Nodes) != 1 || before.Nodes["east/web"].Version != "1" {
		t.Errorf("an earlier snapshot became %v", before.Nodes)
	}
}

func TestSyncedWhenEverySourceIs(t *testing.T) {
	s := New("nodes", "policies")
	s.Complete("nodes", nil)
	if s.Snapshot().Synced() {
		t.Error("synced although policies are not")
	}
	s.Complete("policies", nil)
	if !s.Snapshot().Synced() {
		t.Error("not synced although every source is")
	}
	if New().Snapshot().Synced() {
		t.Error("synced without any source")
	}
}

func TestChangesAreAnnouncedOnce(t *testing.T) {
	s := New("own")
	for range 3 {
		s.Update("own", put(node("web", "1")))
	}
	<-s.Changed()
	select {
	case <-s.Changed():
		t.Error("announced again without a change")
	default:
	}
}

func TestAnUnknownSourceIsIgnored(t *testing.T) {
	s := New("own")
	s.Update("stranger", put(node("web", "1")))
	if n := len(s.Snapshot().Nodes); n != 0 {
		t.Errorf("%d nodes from a source without a rank", n)
	}
}

func TestWhatAnEarlierRunKnewStandsInUntilTheSourceHasSpoken(t *testing.T) {
	s := New("nodes", "policies")
	if !s.Restore("nodes", func(t *Tables) { put(node("web", "earlier"))(t); put(node("gone", "earlier"))(t) }) {
		t.Fatal("not restored before the source was heard")
	}
	if got := s.Snapshot(); got.Known() || got.Synced() || !got.Restored() {
		t.Errorf("with one of two sources restored: known %v, synced %v, restored %v", got.Known(), got.Synced(), got.Restored())
	}
	s.Complete("policies", nil)
	if got := s.Snapshot(); !got.Known() || got.Synced() {
		t.Errorf("with one restored and one synced: known %v, synced %v, want known alone", got.Known(), got.Synced())
	}
	s.Update("nodes", put(node("web", "now")))
	if got := s.Snapshot().Nodes; got["east/web"].Version != "now" || got["east/gone"].Version != "earlier" {
		t.Errorf("while the source speaks: %v, want its word and the earlier one for the rest", got)
	}
	s.Complete("nodes", nil)
	if got := s.Snapshot(); len(got.Nodes) != 1 || got.Restored() || !got.Synced() {
		t.Errorf("once it has spoken: %v, restored %v, want nothing of the earlier run", got.Nodes, got.Restored())
	}
}

func TestNothingIsRestoredOverASourceThatHasSpoken(t *testing.T) {
	s := New("nodes")
	s.Complete("nodes", nil)
	if s.Restore("nodes", put(node("web", "earlier"))) || len(s.Snapshot().Nodes) != 0 {
		t.Errorf("an earlier run is believed after the source was: %v", s.Snapshot().Nodes)
	}
}

func TestTheRestoredRevisionGoesWithItsPolicies(t *testing.T) {
	s := New("policies")
	s.Restore("policies", func(t *Tables) { t.Revision = Revision{Number: 9, Window: 1} })
	if got := s.Snapshot().Revision; got.Number != 9 || !got.Pending() {
		t.Errorf("restored revision %+v", got)
	}
	s.Update("policies", func(t *Tables) { t.Revision = Revision{Number: 3} }) // etcd was built anew
	s.Complete("policies", nil)
	if got := s.Snapshot().Revision.Number; got != 3 {
		t.Errorf("revision %d after the source was heard, want its own", got)
	}
}
