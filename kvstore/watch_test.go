package kvstore_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/kvstore"
	"github.com/plexusmesh/plexus/kvstore/kvtest"
)

// whole groups events of a watch as a consumer does that takes over at the first
// without More.
func whole(t *testing.T, events []kvstore.Event) []string {
	t.Helper()
	var out []string
	var part string
	revision := int64(0)
	for _, ev := range events {
		if part != "" && ev.Revision != revision {
			t.Errorf("revision %d begins in the middle of %d", ev.Revision, revision)
		}
		revision = ev.Revision
		part += fmt.Sprintf(" %s %s", ev.Type, ev.KV.Key)
		if !ev.More {
			out, part = append(out, part[1:]), ""
		}
	}
	if part != "" {
		t.Errorf("a revision without an end: %s", part)
	}
	return out
}

// TestRevisionsComeWhole writes transactions where the watch has to catch up
// with more than fits into one message of etcd, and others one by one.
func TestRevisionsComeWhole(t *testing.T) {
	s := kvtest.Start(t)
	writer, c := s.Client(t), s.Client(t)
	commit := func(ops ...kvstore.Op) {
		t.Helper()
		if ok, err := writer.Commit(t.Context(), nil, ops); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
	big := bytes.Repeat([]byte("x"), 600<<10)
	put := func(key string) kvstore.Op { return kvstore.OpPut(key, big, 0) }
	commit(put("p/a"), put("p/b"))
	want := []string{"put p/a put p/b listed "}
	for i := range 4 {
		want = append(want, fmt.Sprintf("put p/c%d delete p/a put p/b", i), fmt.Sprintf("put p/a put p/d%d", i))
	}
	want = append(want, "delete p/a", "put p/b put p/e")

	var events []kvstore.Event
	for ev := range c.ListAndWatch(soon(t), "p/") {
		switch {
		case ev.Type == kvstore.Lost:
			t.Fatalf("watch: %v", ev.Err)
		case ev.Type == kvstore.Listed: // the watch begins after this
			for i := range 4 {
				commit(put(fmt.Sprintf("p/c%d", i)), put("other"), kvstore.OpDelete("p/a"), kvstore.OpPut("p/b", nil, 0))
				commit(put("p/a"), put(fmt.Sprintf("p/d%d", i)))
			}
			ev.Revision = events[0].Revision // of the list, not of a write
		case ev.Type == kvstore.Put && ev.KV.Key == "p/d3":
			commit(kvstore.OpDelete("p/a"))
			commit(kvstore.OpPut("p/b", nil, 0), put("p/e"))
		}
		events = append(events, ev)
		if ev.KV.Key == "p/e" {
			break
		}
	}
	if diff := cmp.Diff(want, whole(t, events)); diff != "" {
		t.Errorf("events of whole revisions (-want +got):\n%s", diff)
	}
}
