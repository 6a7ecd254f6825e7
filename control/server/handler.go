package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/plexusmesh/plexus/control"
	"github.com/plexusmesh/plexus/control/ca"
	"github.com/plexusmesh/plexus/control/registry"
	"github.com/plexusmesh/plexus/kvstore"
)

var errTimeout = control.Errorf(control.CodeUnavailable, "the server did not finish in time: try again")

type handler struct {
	hosts    hosts
	logger   *slog.Logger
	failures *limiter // failed joins
	lines    *limiter // log lines
}

func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+control.PathTime, h.time)
	mux.HandleFunc("POST "+control.PathJoin, h.join)
	mux.HandleFunc("POST "+control.PathSeen, h.seen)
	mux.HandleFunc("POST "+control.PathLeave, h.leave)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, control.Errorf(control.CodeNotFound, "there is no %s %s here", r.Method, r.URL.Path))
	})
	return mux
}

func (h *handler) time(w http.ResponseWriter, _ *http.Request) {
	reply(w, control.TimeResponse{Protocol: control.Protocol, Time: time.Now().UTC().Format(time.RFC3339Nano)})
}

// join is the one request without a certificate. Sources that keep failing have
// to wait, so that nobody can keep the server busy with guesses.
func (h *handler) join(w http.ResponseWriter, r *http.Request) {
	source := sourceOf(r)
	if !h.failures.allow(source, time.Now()) {
		h.refuse(w, r, control.Errorf(control.CodeTooMany, "too many failed joins from %s: wait a minute", source))
		return
	}
	var req control.JoinRequest
	err := control.Decode(r.Body, &req)
	var resp control.JoinResponse
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
		defer cancel()
		resp, err = h.hosts.Enrol(ctx, req, source)
	}
	if err != nil {
		if answer := (*control.Error)(nil); errors.As(err, &answer) && answer.Code != control.CodeUnavailable {
			h.failures.failed(source, time.Now())
		}
		h.refuse(w, r, err)
		return
	}
	reply(w, resp)
}

func (h *handler) seen(w http.ResponseWriter, r *http.Request) {
	holder, serial, err := holderOf(r)
	if err == nil {
		err = control.Decode(r.Body, &struct{}{})
	}
	if err == nil {
		err = h.hosts.Saw(r.Context(), holder, serial, sourceOf(r))
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	reply(w, control.SeenResponse{Address: sourceOf(r)})
}

func (h *handler) leave(w http.ResponseWriter, r *http.Request) {
	holder, serial, err := holderOf(r)
	if err == nil {
		err = control.Decode(r.Body, &struct{}{})
	}
	if err == nil {
		err = h.hosts.RemoveNode(r.Context(), holder, registry.Removal{Author: "host:" + holder, Reason: "left", Serial: serial})
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	reply(w, struct{}{})
}

// holderOf returns the host whose certificate the client has shown. TLS has
// verified that the mesh's CA signed it, for clients.
func holderOf(r *http.Request) (node, serial string, err error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", "", control.Errorf(control.CodeForbidden, "this needs the certificate of an enrolled host: join first")
	}
	leaf := r.TLS.VerifiedChains[0][0]
	holder, err := ca.HolderOf(leaf)
	if err != nil || holder.Server {
		return "", "", control.Errorf(control.CodeForbidden, "the certificate of %q is not a host's", leaf.Subject.CommonName)
	}
	return holder.Node, ca.SerialOf(leaf), nil
}

// sourceOf returns the address that the request came from.
func sourceOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // no TCP address: it is seen nowhere
	}
	return a.Addr().Unmap()
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(v)) // the client has gone: nobody to tell
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil { // impossible for the types of this API
		return []byte(`{"code":"internal","message":"the answer cannot be encoded"}`)
	}
	return append(data, '\n')
}

// statuses of the codes; any other is a bad request.
var statuses = map[control.Code]int{
	control.CodeTokenUnknown: http.StatusForbidden, control.CodeTokenExpired: http.StatusForbidden,
	control.CodeTokenUsedUp: http.StatusForbidden, control.CodeTokenRevoked: http.StatusForbidden,
	control.CodeForbidden: http.StatusForbidden, control.CodeNotFound: http.StatusNotFound,
	control.CodeNameInUse: http.StatusConflict, control.CodeKeyInUse: http.StatusConflict,
	control.CodeConflict: http.StatusConflict, control.CodeMeshFull: http.StatusInsufficientStorage,
	control.CodeTooMany: http.StatusTooManyRequests, control.CodeUnavailable: http.StatusServiceUnavailable,
	control.CodeInternal: http.StatusInternalServerError,
}

// refuse answers with what err says to whoever asked. What is not meant for
// them is logged instead.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	answer := h.answer(r, err)
	status, known := statuses[answer.Code]
	if !known {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(answer)) // the client has gone: nobody to tell
}

func (h *handler) answer(r *http.Request, err error) *control.Error {
	var answer *control.Error
	switch {
	case errors.As(err, &answer):
		h.logger.Log(r.Context(), h.level(r, slog.LevelInfo), "request refused", "path", r.URL.Path, "address", sourceOf(r), "code", string(answer.Code), "error", answer)
		return answer
	case errors.Is(err, kvstore.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		h.logger.Log(r.Context(), h.level(r, slog.LevelWarn), "request not served", "path", r.URL.Path, "address", sourceOf(r), "error", err)
		return control.Errorf(control.CodeUnavailable, "the server cannot reach etcd at the moment: try again")
	}
	h.logger.Log(r.Context(), h.level(r, slog.LevelError), "request not served", "path", r.URL.Path, "address", sourceOf(r), "error", err)
	return control.Errorf(control.CodeInternal, "the server could not do this: its log says why")
}

// level is how loud a failed request is logged: as it should be, but at debug for
// a source that has had its share of lines. Anybody can make requests fail, and
// would fill the log.
func (h *handler) level(r *http.Request, should slog.Level) slog.Level {
	source, now := sourceOf(r), time.Now()
	allowed := h.lines.allow(source, now)
	h.lines.failed(source, now)
	if !allowed {
		return slog.LevelDebug
	}
	return should
}
