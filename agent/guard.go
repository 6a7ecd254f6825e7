package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plexusmesh/plexus/agent/config"
	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/client"
	"github.com/plexusmesh/plexus/plan"
)

// Parts of guard.timeout: how long the disk is waited for, and how long interfaces
// are, once all is ready. What is left is for the kernel, whose verifier takes
// seconds on a slow machine.
const (
	diskShare = 0.5
	linkShare = 0.3
)

// Guard puts the saved policy in force before the network comes up: once, within
// guard.timeout, from what this host last knew, without etcd, servers or a
// daemon. It writes the very maps and attaches the very programs that Run does,
// so that Run adopts them. Nothing is done on a host that has not joined, or
// beside a running daemon.
//
// An error says why the saved policy is not in force everywhere; then nothing is
// attached, or with guard.onFailure closed programs without a policy, which let
// through what failsafe opens and nothing else.
func Guard(ctx context.Context, o Options) error {
	limit := o.Config.Guard.Timeout
	end := time.Now().Add(limit)
	g := &guard{opts: o, logger: o.Logger}
	have, unread := within(share(limit, diskShare), g.consult)
	defer have.release()
	if errors.Is(unread, errLate) {
		unread = fmt.Errorf("read the saved policy from a disk: %w", unread)
	}
	_, err := within(time.Until(end), func() (known, error) { return have, g.act(ctx, have, unread) })
	if errors.Is(err, errLate) {
		return fmt.Errorf("this host boots on, whether the saved policy is in force or not, as guard.timeout is over: %w", err)
	}
	return err
}

func share(d time.Duration, part float64) time.Duration { return time.Duration(float64(d) * part) }

// act does what follows from what the disk says, or from why it says nothing.
func (g *guard) act(ctx context.Context, have known, unread error) error {
	err := unread
	switch {
	case errors.Is(unread, errUnjoined):
		g.logger.Info("not joined: nothing to guard")
		return nil
	case errors.Is(unread, unix.EWOULDBLOCK):
		g.logger.Info("plexusd is running: nothing to guard")
		return nil
	case unread == nil:
		err = g.enforce(ctx, have)
	}
	if err == nil || errors.Is(err, errPartly) {
		return err
	}
	return g.fail(ctx, have, err)
}

var (
	errUnjoined = errors.New("this host has not joined a mesh")
	errLate     = errors.New("no answer in time")
	errPartly   = errors.New("the saved policy is not in force on every interface")
)

// guard is one run of Guard.
type guard struct {
	opts   Options
	logger *slog.Logger
}

// known is what the disk says, as far as it does.
type known struct {
	facts     bootFacts
	disarmed  bool // whether an administrator has suspended policy
	enrolment *control.Enrolment
	member    *member // never run
	desired   plan.Desired
	unlock    func()
}

// release lets the daemon use the state directory.
func (k known) release() {
	if k.unlock != nil {
		k.unlock()
	}
}

// within runs f, which may wait for ever, and gives it up after d.
func within[T any](d time.Duration, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	came := make(chan answer, 1)
	go func() {
		value, err := f()
		came <- answer{value, err}
	}()
	select {
	case a := <-came:
		return a.value, a.err
	case <-time.After(d):
		var none T
		return none, fmt.Errorf("%w: waited %v", errLate, d.Round(time.Millisecond))
	}
}

// consult reads everything that there is to know, and plans. It changes nothing
// but the file that remembers a trial.
func (g *guard) consult() (known, error) {
	dir := g.opts.Config.StateDir
	e, err := client.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return known{}, errUnjoined
	}
	k := g.remembered()
	if err != nil {
		return k, err
	}
	k.enrolment = &e
	if k.unlock, err = lockState(dir); err != nil {
		return k, err
	}
	k.member = &member{
		opts: g.opts, logger: g.logger, enrolment: e, refused: &refusals{}, unrestored: &refusals{}, news: make(chan struct{}, 1),
	}
	if err := errors.Join(k.member.configure(), k.member.remember()); err != nil {
		return k, err
	}
	k.desired, err = k.member.recall(k.facts)
	return k, err
}

// remembered returns what stands in files of its own, which count whatever became
// of the others.
func (g *guard) remembered() known {
	dir := g.opts.Config.StateDir
	var k known
	facts, err := readJSON[bootFacts](bootFile(dir))
	if err != nil {
		g.logger.Warn("interfaces of earlier boots not known: guarding all that look like hardware", "path", bootFile(dir), "error", err)
	}
	if facts != nil {
		k.facts = *facts
	}
	_, err = os.Lstat(disarmedFile(dir))
	k.disarmed = !errors.Is(err, fs.ErrNotExist)
	return k
}

// enforce writes the plan into the kernel, unless an earlier run of this boot has
// left a newer one there, and attaches.
func (g *guard) enforce(ctx context.Context, have known) error {
	k, err := openDatapath(g.opts)
	if err != nil {
		return err
	}
	defer k.programs.Close()
	k.verdicts.host = have.enrolment.Node
	rules, err := k.maps.Policy.List()
	if err != nil {
		return err
	}
	if len(rules.Entries) == 0 {
		if err := k.lay(ctx, have.desired); err != nil {
			return err
		}
	}
	if have.disarmed {
		g.logger.Error("POLICY IS SUSPENDED on this host: every flow passes until plexus arm")
	}
	attached, err := g.attach(ctx, k, g.choice(have.facts), have.desired)
	if err == nil {
		g.logger.Info("saved policy in force", "node", have.enrolment.Node, "policyRevision", have.desired.Revision, "lapsed", have.desired.Lapsed,
			"interfaces", attached, "saved", have.member.keeper.Earlier().Saved)
	}
	return err
}

// lay brings into the kernel what programs need before they may be attached: the
// steps before "links", and those alone.
func (k *kernel) lay(ctx context.Context, d plan.Desired) error {
	all := k.steps()
	needed := make(map[string]bool)
	for i := len(all) - 1; i >= 0; i-- {
		name := all[i].Resource.Name()
		if name != "links" && !needed[name] {
			continue
		}
		for _, n := range all[i].Needs {
			needed[n] = true
		}
	}
	for _, s := range all {
		if name := s.Resource.Name(); needed[name] {
			if err := s.Resource.Ensure(ctx, d); err != nil {
				return fmt.Errorf("ensure %s: %w", name, err)
			}
		}
	}
	return nil
}

// fail does what guard.onFailure says, and returns why it had to. A host that an
// administrator has opened is not closed because of a damaged disk.
func (g *guard) fail(ctx context.Context, have known, cause error) error {
	if g.opts.Config.Guard.OnFailure == config.GuardOpen || have.disarmed {
		return fmt.Errorf("this host boots OPEN, without the saved policy, until plexusd has heard the mesh: %w", cause)
	}
	attached, err := g.shut(ctx, have)
	if err != nil {
		return fmt.Errorf("this host boots without the saved policy, and could not be closed everywhere: closed are %v: %w", attached, errors.Join(err, cause))
	}
	return fmt.Errorf("this host boots CLOSED but for its failsafe, on %v, until plexusd has heard the mesh: %w", attached, cause)
}
