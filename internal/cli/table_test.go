package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tidemark/segment"
)

func TestTable(t *testing.T) {
	table := NewTable("name", ">rows", "note")
	table.Row("naïve", 12, "two\nlines")
	table.Row("b", Count(1234567))
	var out bytes.Buffer
	require.NoError(t, table.Write(&out))
	require.Equal(t, "name        rows  note\nnaïve         12  two lines\nb      1,234,567\n", out.String())

	out.Reset()
	require.NoError(t, NewTable("name").Write(&out))
	require.Empty(t, out.String())
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567"} {
		require.Equal(t, want, Count(n))
	}
}

func TestMomentNamesBothClocks(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	at := segment.TimestampOf(time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC))

	time.Local = time.UTC
	require.Equal(t, "2026-03-01T23:30:00.000000Z", Moment(at))
	time.Local = time.FixedZone("CET", 3600)
	require.Equal(t, "2026-03-01T23:30:00.000000Z (2026-03-02 00:30:00 CET)", Moment(at))
	require.Equal(t, "2026-03-01T22:30:00.000000Z (23:30:00 CET)", Moment(at-3600e6))
	require.Equal(t, "-", Moment(0))
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 4100 * time.Millisecond: "4s", 119 * time.Second: "1m59s", 12 * time.Minute: "12m",
		3*time.Hour + 5*time.Minute: "3h5m", 17*24*time.Hour + time.Hour: "17 days",
	} {
		require.Equal(t, want, Ago(d), d)
	}
}
