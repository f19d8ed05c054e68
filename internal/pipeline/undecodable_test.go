package pipeline

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
	"tidemark/segment"
)

// TestTheSameInternalErrorIsAGap, but not one that goes away, one elsewhere, or one that time mends.
func TestTheSameInternalErrorIsAGap(t *testing.T) {
	internal := fmt.Errorf("stream: %w", &pgconn.PgError{Code: "XX000", Message: "invalid attribute number 9 for t"})
	var u undecodable
	repeat := func(times int, err error, end uint64) (last error) {
		for range times {
			last = u.note(err, 100+segment.LSN(end))
		}
		return last
	}
	require.NoError(t, repeat(undecodableAfter-1, internal, 0))
	require.NoError(t, repeat(1, errors.New("connection reset"), 0))
	require.NoError(t, repeat(undecodableAfter-1, internal, 0))
	require.NoError(t, repeat(1, internal, 1), "the archive has gone on")
	require.NoError(t, repeat(undecodableAfter-2, internal, 1))
	require.NoError(t, repeat(undecodableAfter, &pgconn.PgError{Code: "57P01", Message: "terminating connection"}, 1))
	err := repeat(undecodableAfter, internal, 2)
	require.Equal(t, fault.Gap, fault.CodeOf(err))
	require.ErrorContains(t, err, "invalid attribute number")
	require.NotEmpty(t, fault.HintOf(err))
}
