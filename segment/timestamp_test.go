package segment

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTimestampText covers every value: a replication origin gives a commit any time.
func TestTimestampText(t *testing.T) {
	const day = 24 * 3600 * 1e6
	for value, want := range map[Timestamp]string{
		0:                           "2000-01-01T00:00:00.000000Z",
		-1:                          "1999-12-31T23:59:59.999999Z",
		math.MaxInt64:               "+294277-01-09T04:00:54.775807Z",
		math.MinInt64:               "-290278-12-22T19:59:05.224192Z",
		252455616000000000:          "+10000-01-01T00:00:00.000000Z",
		252455616000000000 - 1:      "9999-12-31T23:59:59.999999Z",
		-730485 * day:               "0000-01-01T00:00:00.000000Z",
		-730485*day - 1:             "-0001-12-31T23:59:59.999999Z",
		252455616000000000 + 59*day: "+10000-02-29T00:00:00.000000Z",
	} {
		require.Equal(t, want, value.String())
		var back Timestamp
		require.NoError(t, back.UnmarshalText([]byte(want)))
		require.Equal(t, value, back)
	}
	for _, bad := range []string{"", "+", "+2024-01-01T00:00:00.000000Z", "+10001-02-29T00:00:00.000000Z", "+294278-01-09T04:00:54.775807Z", "-x-01-01T00:00:00Z", "10000-01-01T00:00:00Z"} {
		require.Error(t, new(Timestamp).UnmarshalText([]byte(bad)), bad)
	}
}
