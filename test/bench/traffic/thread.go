package traffic

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Priorities of SCHED_FIFO (sched(7)): other programs wait while load is made, and
// load waits for the thread that reads the clocks.
const (
	priorityLoad = 1 + iota
	priorityClock
)

// standing is where and when a thread may run.
type standing struct {
	cpus unix.CPUSet
	attr *unix.SchedAttr
}

// promote gives this thread a priority above all other programs, on one CPU or,
// with none, on all. It returns what was before.
func promote(priority uint32, cpu int) (before standing, err error) {
	if err := unix.SchedGetaffinity(0, &before.cpus); err != nil {
		return before, fmt.Errorf("read CPUs of thread: %w", err)
	}
	if before.attr, err = unix.SchedGetAttr(0, 0); err != nil {
		return before, fmt.Errorf("read priority of thread: %w", err)
	}
	now := standing{before.cpus, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}}
	if cpu != anyCPU {
		now.cpus = unix.CPUSet{}
		now.cpus.Set(cpu % runtime.NumCPU())
	}
	return before, now.take()
}

const anyCPU = -1

func (s standing) take() error {
	if err := unix.SchedSetaffinity(0, &s.cpus); err != nil {
		return fmt.Errorf("choose CPU of thread: %w", err)
	}
	if err := unix.SchedSetAttr(0, s.attr, 0); err != nil {
		return fmt.Errorf("set priority %d of thread: as root, outside groups without real time (sched(7)): %w", s.attr.Priority, err)
	}
	return nil
}

// promoted calls fn on this thread at a priority, and gives the thread back as it was.
func promoted(priority uint32, cpu int, fn func() error) error {
	runtime.LockOSThread()
	before, err := promote(priority, cpu)
	if err != nil {
		return err // and nobody else gets this thread
	}
	err = fn()
	if terr := before.take(); terr != nil {
		return terr
	}
	runtime.UnlockOSThread()
	return err
}
