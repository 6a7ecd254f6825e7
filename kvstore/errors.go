package kvstore

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Causes that callers word for people or branch on.
var (
	// ErrUnavailable means that no etcd server answered in time, or that
	// etcd has no quorum. What was asked may have been done nevertheless.
	ErrUnavailable = errors.New("etcd is not reachable")
	// ErrPermission means that etcd knows us and refuses the key.
	ErrPermission = errors.New("etcd refuses access")
	// ErrUnauthenticated means that etcd does not know our certificate's
	// user: never enrolled, removed, or revoked.
	ErrUnauthenticated = errors.New("etcd does not know this certificate")
	// ErrFull means that etcd's space quota is used up: it takes no writes.
	ErrFull = errors.New("etcd is out of space")
	// ErrCompacted means that history needed by a watch is gone.
	ErrCompacted = errors.New("etcd has compacted the revision")
)

// Error is what kvstore returns: what was attempted, on what, and why it did
// not work. errors.Is finds both the cause above and etcd's own error.
type Error struct {
	Op    string // verb: "get", "put", "list", …
	Key   string // key, prefix or user; may be empty
	Cause error  // one of the Err… above, or nil when none fits
	Err   error  // as etcd's client reported it
}

// Error implements error.
func (e *Error) Error() string {
	what := e.Op
	if e.Key != "" {
		what += " " + e.Key
	}
	if e.Cause == nil {
		return fmt.Sprintf("%s: %v", what, e.Err)
	}
	return fmt.Sprintf("%s: %v: %v", what, e.Cause, e.Err)
}

// Unwrap gives errors.Is and errors.As both errors.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Err}
	}
	return []error{e.Cause, e.Err}
}

// causes maps etcd's errors; the first match wins.
var causes = []struct {
	err   error
	cause error
}{
	{rpctypes.ErrPermissionDenied, ErrPermission},
	{rpctypes.ErrUserEmpty, ErrUnauthenticated},
	{rpctypes.ErrUserNotFound, ErrUnauthenticated},
	{rpctypes.ErrAuthFailed, ErrUnauthenticated},
	{rpctypes.ErrInvalidAuthToken, ErrUnauthenticated},
	{rpctypes.ErrNoSpace, ErrFull},
	{rpctypes.ErrCompacted, ErrCompacted},
	{rpctypes.ErrNoLeader, ErrUnavailable},
	{rpctypes.ErrNotCapable, ErrUnavailable},
	{rpctypes.ErrStopped, ErrUnavailable},
	{rpctypes.ErrTimeout, ErrUnavailable},
	{rpctypes.ErrTimeoutDueToLeaderFail, ErrUnavailable},
	{rpctypes.ErrTimeoutDueToConnectionLost, ErrUnavailable},
	{rpctypes.ErrTimeoutWaitAppliedIndex, ErrUnavailable},
	{rpctypes.ErrLeaderChanged, ErrUnavailable},
	{rpctypes.ErrNotLeader, ErrUnavailable},
	{rpctypes.ErrUnhealthy, ErrUnavailable},
	{context.DeadlineExceeded, ErrUnavailable},
}

// wrap names what was attempted and finds the cause.
func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Key: key, Cause: causeOf(err), Err: err}
}

func causeOf(err error) error {
	for _, c := range causes {
		if same(err, c.err) {
			return c.cause
		}
	}
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return ErrUnavailable
	case codes.PermissionDenied:
		return ErrPermission
	case codes.Unauthenticated:
		return ErrUnauthenticated
	}
	return nil
}

// same compares with etcd's client-side errors, which are values, and with
// their server-side forms, which only share the text.
func same(err, target error) bool {
	if errors.Is(err, target) {
		return true
	}
	var want rpctypes.EtcdError
	if !errors.As(target, &want) {
		return false
	}
	s, ok := status.FromError(err)
	return ok && s.Message() == want.Error()
}

// code returns the gRPC code of err, also of those that etcd has wrapped.
func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Code()
	}
	return codes.Unknown
}
