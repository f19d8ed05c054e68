package objectstore

import (
	"context"
	"errors"
	"fmt"
)

// opError is the error of one operation on one object: its kind is a sentinel of this package (or a
// context error), its detail is safe to show.
type opError struct {
	op, key string
	kind    error
	detail  string // one line without secrets, may be empty
	cause   error  // may be nil; matched by errors.Is but not printed
}

// Error names operation and key, then what was wrong.
func (e *opError) Error() string {
	text := e.op
	if e.key != "" {
		text += " " + e.key
	}
	text += ": " + e.kind.Error()
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// Unwrap gives the kind and the cause to errors.Is.
func (e *opError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

func newError(op, key string, kind error, format string, args ...any) error {
	return &opError{op: op, key: key, kind: kind, detail: fmt.Sprintf(format, args...)}
}

func invalidURL(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidURL, fmt.Sprintf(format, args...))
}

// contextError returns the error of an operation whose context has ended, else nil.
func contextError(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return &opError{op: op, key: key, kind: err}
	}
	return nil
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
