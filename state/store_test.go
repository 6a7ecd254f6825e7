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
	s.SetSynced("nodes")
	if s.Snapshot().Synced() {
		t.Error("synced although policies are not")
	}
	s.SetSynced("policies")
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
