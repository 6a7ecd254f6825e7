package api

import (
	"errors"
	"fmt"
	"net/http"
)

// Codes of an Error. They are part of the contract.
const (
	CodeUnjoined    = "unjoined"    // this host is in no mesh
	CodeInvalid     = "invalid"     // the request cannot be carried out as written
	CodeTooLarge    = "too-large"   // the request has more bytes than the daemon reads
	CodeForbidden   = "forbidden"   // the caller may not do this
	CodeNotFound    = "not-found"   // what the request names does not exist
	CodeConflict    = "conflict"    // what is there already stands against it
	CodeUnavailable = "unavailable" // something that the daemon needs does not answer
	CodeInternal    = "internal"    // everything else
)

// Errorf returns an Error of a code. Text follows the house rules: a lower-case
// phrase that says what was attempted, with what, and the remedy.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

var statuses = map[string]int{
	CodeUnjoined:    http.StatusConflict,
	CodeInvalid:     http.StatusBadRequest,
	CodeTooLarge:    http.StatusRequestEntityTooLarge,
	CodeForbidden:   http.StatusForbidden,
	CodeNotFound:    http.StatusNotFound,
	CodeConflict:    http.StatusConflict,
	CodeUnavailable: http.StatusServiceUnavailable,
}

// status returns the HTTP status that goes with the code of e.
func (e *Error) status() int {
	if s, ok := statuses[e.Code]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// asError returns what a client is told of err: the code of the Error inside
// it, if there is one, with the text of the whole chain.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Code: e.Code, Text: err.Error()}
	}
	return &Error{Code: CodeInternal, Text: err.Error()}
}
