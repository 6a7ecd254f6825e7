package control

import "fmt"

// Code says what kind of answer an Error is, for programs.
type Code string

// The codes of the join API.
const (
	CodeInvalid      Code = "invalid"       // the request cannot be fulfilled as it is
	CodeVersion      Code = "version"       // the two sides speak different versions
	CodeTokenUnknown Code = "token-unknown" // no such token, or not its secret
	CodeTokenExpired Code = "token-expired"
	CodeTokenUsedUp  Code = "token-used-up"
	CodeTokenRevoked Code = "token-revoked"
	CodeNameInUse    Code = "name-in-use"
	CodeKeyInUse     Code = "key-in-use"
	CodeMeshFull     Code = "mesh-full"
	CodeForbidden    Code = "forbidden"
	CodeNotFound     Code = "not-found"
	CodeConflict     Code = "conflict"
	CodeTooMany      Code = "too-many-requests"
	CodeUnavailable  Code = "unavailable"
	CodeInternal     Code = "internal"
)

// Error is an answer that is not a success, in words that help whoever asked.
// It is also the body of such an answer.
type Error struct {
	Code Code   `json:"code"`
	Text string `json:"message"`
}

func (e *Error) Error() string { return e.Text }

// Is makes errors.Is compare codes, with an Error that has no text.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Text == ""
}

// Errorf returns an Error whose text is formatted as by fmt.Sprintf.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}
