package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/plexusmesh/plexus/observe"
)

// line is one line of the answer to observe: exactly one field is set.
type line struct {
	Flow  *observe.Flow `json:"flow,omitempty"`
	Lost  uint64        `json:"lost,omitempty"` // flows that were gone before this reader came to them
	Error *Error        `json:"error,omitempty"`
}

// observe writes one line a flow and flushes each, until the flows, the client
// or the server end.
func (s *Server) observe(w http.ResponseWriter, r *http.Request) {
	var q observe.Query
	if err := decode(w, r, maxBody, &q); err != nil {
		fail(w, err)
		return
	}
	if err := q.Validate(); err != nil {
		fail(w, Errorf(CodeInvalid, "%v", err))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	s.stream(ctx, w, q)
}

// stream returns early when a write fails: then the client has gone.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, q observe.Query) {
	out, enc := http.NewResponseController(w), json.NewEncoder(w)
	if out.Flush() != nil { // tells a follower that it is connected
		return
	}
	for flow, err := range s.backend.Observe(ctx, q) {
		l, last := newLine(&flow, err)
		if ctx.Err() != nil || enc.Encode(l) != nil || out.Flush() != nil || last {
			return
		}
	}
}

func newLine(flow *observe.Flow, err error) (l line, last bool) {
	var lost *observe.LostError
	switch {
	case err == nil:
		return line{Flow: flow}, false
	case errors.As(err, &lost):
		return line{Lost: lost.Count}, false
	}
	return line{Error: asError(err)}, true
}

// event is the reverse of newLine.
func (l line) event() (observe.Flow, error) {
	switch {
	case l.Error != nil:
		return observe.Flow{}, l.Error
	case l.Flow != nil:
		return *l.Flow, nil
	}
	return observe.Flow{}, &observe.LostError{Count: l.Lost}
}
