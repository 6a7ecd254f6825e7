// Package trial decides when the trial of a policy revision has ended on this
// host.
//
// A revision on trial is enforced for its window and no longer, unless it is
// confirmed: a policy that cuts its author off must end by itself. Each host
// measures the window for itself, from when it first saw the revision, so that
// no server, no etcd and no clock of another host can keep it waiting. What it
// saw and when survives restarts of the daemon and reboots.
//
// Judge is a function: the clocks are read, and the trial is remembered, by its
// caller.
package trial
