package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/objectstore"
	"tidemark/segment"
)

func TestExitCodes(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, OK},
		{cause, Failed},
		{New(Gap, "", "x"), Gap},
		{fmt.Errorf("outside: %w", Wrap(cause, Conflict, "", "x")), Conflict},
		{Wrap(New(Damage, "", "inside"), Unreachable, "", "outermost counts"), Unreachable},
		{&segment.CorruptError{Name: "o", Reason: "r"}, Damage},
		{&segment.VersionError{}, Usage},
		{fmt.Errorf("%w", objectstore.ErrMismatch), Damage},
		{fmt.Errorf("%w", objectstore.ErrDenied), Usage},
		{fmt.Errorf("%w", objectstore.ErrUnsupported), Usage},
		{fmt.Errorf("%w", objectstore.ErrUnavailable), Unreachable},
		{fmt.Errorf("%w", objectstore.ErrFull), Unreachable}, // worth waiting for
		{fmt.Errorf("%w", context.Canceled), Interrupted},
	} {
		require.Equal(t, c.want, CodeOf(c.err), "%v", c.err)
	}
}

func TestHintsAndText(t *testing.T) {
	inner := New(Usage, "do this", "inner")
	err := Wrap(inner, Failed, "", "outer")
	require.EqualError(t, err, "outer: inner")
	require.Equal(t, "do this", HintOf(err), "the outermost hint that there is")
	require.Empty(t, HintOf(errors.New("plain")))
	require.NoError(t, Wrap(nil, Failed, "", "nothing"))
}

func TestPlainTextOfANetworkError(t *testing.T) {
	op := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	require.Equal(t, "dial tcp: connection refused", Plain(fmt.Errorf("failed to connect:\n\tone: %w\n\ttwo: %w", op, op)))
	require.Equal(t, "a b", Plain(errors.New("a\n\tb")))
}
