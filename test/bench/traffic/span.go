package traffic

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Span is how long one measurement takes.
type Span struct {
	Warm, Count time.Duration
}

const (
	// patience bounds how much longer it takes where little arrives.
	patience = 10 * time.Second
	// enough must arrive, or the time from one arrival to the next would count.
	enough = 20
)

// group is the threads that share a CPU.
type group int

const (
	senders group = iota
	receivers
)

// threads are what makes the load of one measurement.
type threads struct {
	arrived atomic.Uint64
	stopped [2]atomic.Bool // by group
	running [2]sync.WaitGroup

	mu  sync.Mutex
	err error
}

// spawn calls step on a thread of a group until the measurement is over or step
// fails. No step may block for long.
func (t *threads) spawn(g group, step func() error) {
	t.running[g].Go(func() { t.fail(t.loop(g, step)) })
}

// loop is spawn on this thread.
func (t *threads) loop(g group, step func() error) error {
	return promoted(priorityLoad, int(g), func() error {
		for !t.stopped[g].Load() {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

// stop ends those that receive last, since those that send may wait for them.
func (t *threads) stop() {
	for _, g := range []group{senders, receivers} {
		t.stopped[g].Store(true)
		t.running[g].Wait()
	}
}

func (t *threads) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = errors.Join(t.err, err)
}

func (t *threads) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// rate lets the threads run for the span, ends them, and returns what arrived in a
// second.
func (t *threads) rate(span Span) (rate float64, err error) {
	err = promoted(priorityClock, anyCPU, func() error {
		rest(span.Warm)
		before, start := t.arrived.Load(), time.Now()
		for {
			rest(span.Count)
			n, took := t.arrived.Load()-before, time.Since(start)
			rate = float64(n) / took.Seconds()
			if err := t.failed(); err != nil || n >= enough {
				return err
			}
			if took > patience {
				return fmt.Errorf("measure load: %d arrived in %v", n, took)
			}
		}
	})
	t.stop()
	return rate, errors.Join(err, t.failed())
}

// rest sleeps on this very thread, which a goroutine that sleeps gives away.
func rest(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // what a signal cuts off is no harm: the clock tells
}

// again returns nil for what only means that there is nothing to do yet, or that a
// signal came, as Go's runtime sends them.
func again(err error) error {
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}
