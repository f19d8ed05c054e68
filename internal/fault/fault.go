// Package fault holds the one error shape that people see: what failed, a hint that says what to do,
// and the exit code of the command-line contract. Only Tidemark's commands turn it into output.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"tidemark/objectstore"
	"tidemark/segment"
)

// Code is a process exit code of the command-line contract (docs/operations.md lists them).
type Code int

// The exit codes. They are fixed: scripts depend on them.
const (
	OK          Code = 0   // done
	Failed      Code = 1   // failed for the reason printed
	Usage       Code = 2   // usage, configuration, credentials, a target database that is not empty
	Uncovered   Code = 3   // the target is outside what the archive covers
	Damage      Code = 4   // a checksum, the chain or a decoded value is wrong
	Conflict    Code = 5   // another writer holds this archive or slot
	Gap         Code = 6   // the slot is gone or history has a gap
	Unreachable Code = 7   // a database or the store can't be reached, after retries
	Finding     Code = 8   // the question was answered, and the answer is bad
	Interrupted Code = 130 // SIGINT
)

// Error is an error with an exit code and a hint.
type Error struct {
	Code Code
	Msg  string // what failed, on what: one line, no secrets
	Hint string // what to do: one line, may be empty
	Err  error  // the cause, may be nil; its text is appended to Msg
}

// Error returns the message followed by the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	if e.Msg == "" {
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error with a code, a hint (may be empty) and a formatted message.
func New(code Code, hint, format string, args ...any) *Error {
	return &Error{Code: code, Hint: hint, Msg: fmt.Sprintf(format, args...)}
}

// Wrap gives err a code, a hint and a formatted message in front. It returns nil for a nil err.
func Wrap(err error, code Code, hint, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Hint: hint, Msg: fmt.Sprintf(format, args...), Err: err}
}

// CodeOf returns the exit code for err: that of the outermost Error in its chain, else one derived
// from the sentinel errors of objectstore and segment, else Failed. A nil err is OK.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	switch {
	case errors.Is(err, segment.ErrCorrupt), errors.Is(err, objectstore.ErrMismatch):
		return Damage
	case errors.Is(err, objectstore.ErrDenied), errors.Is(err, objectstore.ErrInvalidURL),
		errors.Is(err, objectstore.ErrUnsupported), errors.As(err, new(*segment.VersionError)):
		return Usage
	case errors.Is(err, objectstore.ErrUnavailable):
		return Unreachable
	case errors.Is(err, context.Canceled):
		return Interrupted
	}
	return Failed
}

// HintOf returns the hint of the outermost Error in err's chain that has one, else "".
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// Plain returns err's text on one line for an error of the network: that of the failed operation alone,
// once, where a client lists every address that it tried in several lines.
func Plain(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}
