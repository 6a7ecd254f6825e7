package observe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plexusmesh/plexus/datapath"
	"github.com/plexusmesh/plexus/policy"
)

// event number n: TCP for even, UDP for odd, n milliseconds after start.
func event(n int) datapath.Event {
	e := datapath.Event{
		Time: start.Add(time.Duration(n) * time.Millisecond), Direction: policy.Egress, Protocol: 6, Remote: dbID, Length: uint32(n),
		Src: netip.MustParseAddrPort("10.210.0.1:40000"), Dst: netip.MustParseAddrPort("10.210.0.2:5432"),
	}
	if n%2 == 1 {
		e.Protocol = 17
	}
	return e
}

func newRecorder(t *testing.T, capacity, events int) *Recorder {
	t.Helper()
	r, err := New(Options{Node: "alpha", Capacity: capacity, Resolver: directory{}})
	if err != nil {
		t.Fatal(err)
	}
	for n := range events {
		r.Record(event(n))
	}
	return r
}

// collect returns the numbers of the flows, with "lost n" where some are missing.
func collect(ctx context.Context, r *Recorder, q Query) []string {
	out := []string{}
	for f, err := range r.Observe(ctx, q) {
		var lost *LostError
		switch {
		case errors.As(err, &lost):
			out = append(out, fmt.Sprint("lost ", lost.Count))
		case err != nil:
			out = append(out, err.Error())
		default:
			out = append(out, fmt.Sprint(f.Bytes))
		}
	}
	return out
}

func TestObserveRecorded(t *testing.T) {
	tests := []struct {
		name             string
		capacity, events int
		query            Query
		want             []string
	}{
		{"nothing recorded", 4, 0, Query{}, []string{}},
		{"nothing recorded, last", 4, 0, Query{Last: 3}, []string{}},
		{"all", 4, 3, Query{}, []string{"0", "1", "2"}},
		{"the ring overwrites the oldest", 4, 10, Query{}, []string{"6", "7", "8", "9"}},
		{"last", 8, 10, Query{Last: 2}, []string{"8", "9"}},
		{"more than there are", 4, 10, Query{Last: 99}, []string{"6", "7", "8", "9"}},
		{"none", 4, 10, Query{Last: -1}, []string{}},
		{"last counts those that match", 8, 10, Query{Last: 2, Protocol: "TCP"}, []string{"6", "8"}},
		{"since", 8, 8, Query{Since: start.Add(5 * time.Millisecond)}, []string{"5", "6", "7"}},
		{"across batches", 1000, 1000, Query{Last: 3, Since: start, Protocol: "UDP"}, []string{"995", "997", "999"}},
		{"malformed", 4, 3, Query{Verdict: "x"}, []string{`verdict "x" is unknown: use FORWARDED or DROPPED`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRecorder(t, tt.capacity, tt.events)
			if diff := cmp.Diff(tt.want, collect(t.Context(), r, tt.query)); diff != "" {
				t.Errorf("flows (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLastFindsAMatchFarBack(t *testing.T) {
	r := newRecorder(t, 2000, 0)
	r.Record(event(1))
	for range 1500 {
		r.Record(event(2))
	}
	if diff := cmp.Diff([]string{"1"}, collect(t.Context(), r, Query{Last: 1, Protocol: "UDP"})); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t, 100, 5)
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan struct{})
		go func() {
			got = collect(ctx, r, Query{Follow: true, Last: 2})
			close(done)
		}()
		synctest.Wait() // the follower has read what was there
		for n := 5; n < 8; n++ {
			r.Record(event(n))
			synctest.Wait()
		}
		cancel()
		<-done
		if diff := cmp.Diff([]string{"3", "4", "5", "6", "7"}, got); diff != "" {
			t.Errorf("flows (-want +got):\n%s", diff)
		}
	})
}

func TestSlowFollowerIsToldWhatItLost(t *testing.T) {
	r := newRecorder(t, 10, 0)
	r.Record(event(0))
	var got []string
	for f, err := range r.Observe(t.Context(), Query{Follow: true}) {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, fmt.Sprint(f.Bytes))
		if f.Bytes == 0 { // while this reader is busy, the recorder goes on
			for n := 1; n <= 30; n++ {
				r.Record(event(n))
			}
		}
		if f.Bytes == 22 {
			break
		}
	}
	want := []string{"0", "20 flows were overwritten before they could be read", "21", "22"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestStoppingEarly(t *testing.T) {
	r := newRecorder(t, 600, 600)
	ctx, cancel := context.WithCancel(t.Context())
	for _, q := range []Query{{}, {Last: 9}, {Follow: true}} {
		for f, err := range r.Observe(ctx, q) {
			if err != nil || f.Node == "" {
				t.Fatalf("%+v: flow %v, error %v", q, f, err)
			}
			break
		}
	}
	cancel()
	for _, q := range []Query{{}, {Last: 9}, {Follow: true}} {
		if got := collect(ctx, r, q); len(got) != 0 {
			t.Errorf("%+v yields %d flows although its context has ended", q, len(got))
		}
	}
}

// TestConcurrentReaders is for the race detector, and checks that a reader gets
// or is told of every flow, in order.
func TestConcurrentReaders(t *testing.T) {
	const total = 5000
	r := newRecorder(t, 64, 0)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			next, first := uint64(0), true
			for f, err := range r.Observe(t.Context(), Query{Follow: true}) {
				var lost *LostError
				if errors.As(err, &lost) {
					next += lost.Count
					continue
				}
				if first { // flows that are gone before the reader starts are not lost to it
					next, first = uint64(f.Bytes), false
				}
				if uint64(f.Bytes) != next {
					t.Errorf("flow %d came where %d was due", f.Bytes, next)
				}
				if next++; next == total {
					return
				}
			}
		})
	}
	for n := range total {
		r.Record(event(n))
	}
	readers.Wait()
}

func TestNew(t *testing.T) {
	for _, o := range []Options{{}, {Node: "a"}, {Resolver: directory{}}, {Node: "a", Resolver: directory{}, Capacity: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) is accepted", o)
		}
	}
	r, err := New(Options{Node: "a", Resolver: directory{}})
	if err != nil || r.ring.capacity != DefaultCapacity {
		t.Errorf("New: %v, capacity %d", err, r.ring.capacity)
	}
}

func BenchmarkRecord(b *testing.B) {
	r, err := New(Options{Node: "alpha", Resolver: directory{}})
	if err != nil {
		b.Fatal(err)
	}
	e := event(0)
	for b.Loop() {
		r.Record(e)
	}
}
