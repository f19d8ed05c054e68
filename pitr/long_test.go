package pitr

import (
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
)

// TestRestoreOfALongRange: a restore reads what a plan of a long range left unread, and checks it before
// the target is touched.
func TestRestoreOfALongRange(t *testing.T) {
	w := shop(t, "long")
	want := hashes(t, w.db)
	unlist := func(o *Options) {
		require.NotEmpty(t, o.Plan.entries)
		o.Create = true
		o.Plan.walked, o.Plan.entries, o.Plan.Tables, o.Plan.TablesUnlisted = false, nil, nil, true
	}
	report, err := w.try(w.store, "long_new", func(o *Options) {
		unlist(o)
		o.Confirm = func(p *Plan) error {
			require.False(t, p.TablesUnlisted)
			require.Len(t, p.Tables, 2, "a person sees the whole plan")
			return nil
		}
	})
	require.NoError(t, err)
	require.True(t, report.Verified)
	require.EqualValues(t, 1000, report.Rows["public.orders"].Inserted)
	require.Equal(t, want, hashes(t, "long_new"))

	// A plan whose end the entries do not reach.
	_, err = w.try(w.store, "long_short", func(o *Options) { unlist(o); o.Plan.Cut += 1 << 30 })
	require.Equal(t, fault.Uncovered, fault.CodeOf(err), "%v", err)
	require.NotContains(t, databases(t), "long_short")
}
