package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// empty is the answer of a call that has nothing to say but that it worked.
type empty struct{}

// noAnswer gives call an answer, so that all calls have the same shape.
func noAnswer[Req any](call func(context.Context, Req) error) func(context.Context, Req) (empty, error) {
	return func(ctx context.Context, r Req) (empty, error) { return empty{}, call(ctx, r) }
}

func get[Resp any](call func(context.Context) (Resp, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		resp, err := call(r.Context())
		answer(w, resp, err)
	}
}

func remove[Resp any](call func(context.Context, string) (Resp, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		resp, err := call(r.Context(), r.PathValue("id"))
		answer(w, resp, err)
	}
}

func post[Req, Resp any](limit int64, call func(context.Context, Req) (Resp, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req Req
		if err := decode(w, r, limit, &req); err != nil {
			fail(w, err)
			return
		}
		resp, err := call(r.Context(), req)
		answer(w, resp, err)
	}
}

// decode reads one JSON value of at most limit bytes. A field that it does not
// know is an error: an older daemon must not ignore what a newer client asks.
func decode(w http.ResponseWriter, r *http.Request, limit int64, into any) error {
	if r.ContentLength > limit {
		return tooLarge(r.ContentLength, limit)
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		_, err = d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.Join(errors.New("data after the first value"), err)
	}
	if over := new(http.MaxBytesError); errors.As(err, &over) {
		return Errorf(CodeTooLarge, "read request: more than the limit of %d bytes", limit)
	}
	return Errorf(CodeInvalid, "decode request: %v", err)
}

func tooLarge(size, limit int64) *Error {
	return Errorf(CodeTooLarge, "read request of %d bytes: the limit is %d bytes", size, limit)
}

func answer(w http.ResponseWriter, resp any, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	write(w, http.StatusOK, withoutNull(resp))
}

func fail(w http.ResponseWriter, err error) {
	e := asError(err)
	write(w, e.status(), e)
}

// write sends v. An error here means that the client has gone, and nobody is
// left to be told.
func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
