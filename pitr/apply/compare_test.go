package apply

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecentChangesAreSeenBySnapshots(t *testing.T) {
	var r recent
	require.True(t, r.seenBy("5:5:"))
	for xid := uint32(10); xid < 100; xid += 10 {
		r.add(xid)
	}
	require.True(t, r.seenBy("91:91:"))
	require.True(t, r.seenBy("25:91:25,85"))
	require.False(t, r.seenBy("20:91:20,85"), "20 was under way")
	require.False(t, r.seenBy("90:90:"), "90 had not begun")
	require.True(t, r.seenBy(""), "a message without one")
	require.True(t, r.seenBy("4294967387:4294967387:"), "of the next epoch")
	r = recent{^uint32(0)}
	require.True(t, r.seenBy("4294967300:4294967300:"), "wrapped around")
	for xid := range uint32(2 * maxRecent) {
		r.add(xid)
	}
	require.Len(t, r, maxRecent)
}
