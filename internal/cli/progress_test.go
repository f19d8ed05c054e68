package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProgressLogsEveryFewSecondsWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	env := &Env{Log: newLogger(&out, "text", "info"), Stderr: &out, Now: func() time.Time { return now }}

	p := env.Progress("copying", 10<<20, true)
	p.Add(1 << 20)
	require.Empty(t, out.String())
	now = now.Add(6 * time.Second)
	p.Add(1 << 20)
	p.Add(1 << 20)
	require.Contains(t, out.String(), `msg=copying done="2 MiB" total="10 MiB"`)
	require.Equal(t, 1, strings.Count(out.String(), "copying"))

	now = now.Add(6 * time.Second)
	p.Set("replaying", 5<<20, 0)
	p.Close()
	require.Contains(t, out.String(), `msg=replaying done="5 MiB" total="10 MiB"`)
}
