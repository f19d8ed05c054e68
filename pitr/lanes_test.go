package pitr

import (
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"tidemark/internal/fault"
)

// TestLanes reads several segments at once where all that is left to do is inserting rows, and comes to the same as
// one after the other; a catalog that says so wrongly is found out.
func TestLanes(t *testing.T) {
	w := newWorld(t, "lanes", `CREATE TABLE event (id int PRIMARY KEY, what text, n int GENERATED ALWAYS AS IDENTITY); CREATE TABLE plain (id int, what text);
		CREATE TABLE folded (id int PRIMARY KEY, v int); INSERT INTO folded SELECT i, 0 FROM generate_series(1, 100) i; CREATE TABLE other (id int); ALTER TABLE other REPLICA IDENTITY FULL`)
	for i := range 60 {
		w.sql("BEGIN; INSERT INTO event SELECT 100 * " + strconv.Itoa(i) + " + i, repeat('event', i) FROM generate_series(1, 100) i; INSERT INTO plain VALUES (" + strconv.Itoa(i) + ", 'x'); UPDATE folded SET v = v + 1 WHERE id % 7 = " + strconv.Itoa(i%7) + "; COMMIT")
	}
	w.sql("INSERT INTO plain SELECT 1000, repeat('wide', 700000); TRUNCATE folded; INSERT INTO folded VALUES (1, 1)")
	w.archive()
	lanes := func(change func(*Options)) int {
		o := Options{Archive: w.view(), Plan: w.plan(Target{Kind: ToLatest}), DSN: server.DSN("nowhere"), Jobs: 3}
		if change != nil {
			change(&o)
		}
		r, err := newRun(t.Context(), o)
		require.NoError(t, err)
		r.entries = r.replayed()
		r.planFold()
		return r.lanes()
	}
	require.Equal(t, 3, lanes(nil))
	require.Equal(t, 1, lanes(func(o *Options) { o.Jobs = 1 }))
	require.Equal(t, 1, lanes(func(o *Options) { o.NoFold = true }), "updates come in order")
	require.Equal(t, 3, lanes(func(o *Options) { o.NoFold, o.Tables = true, []string{"event", "plain"} }))
	alone := w.restore(Target{Kind: ToLatest}, "lanes_1", func(o *Options) { o.Jobs = 1 })
	beside := w.restore(Target{Kind: ToLatest}, "lanes_3", func(o *Options) { o.Jobs = 3 })
	require.Equal(t, hashes(t, w.db), hashes(t, "lanes_1"))
	require.Equal(t, hashes(t, w.db), hashes(t, "lanes_3"))
	require.Equal(t, alone.Rows, beside.Rows)
	require.Equal(t, alone.Transactions, beside.Transactions)
	require.Equal(t, []any{alone.ReachedLSN, alone.Verified}, []any{beside.ReachedLSN, beside.Verified})

	w.sql("INSERT INTO other VALUES (1); DELETE FROM other")
	w.archive()
	require.Equal(t, 1, lanes(nil), "other is not folded")
	plan := w.plan(Target{Kind: ToLatest})
	at := slices.IndexFunc(plan.Tables, func(p PlanTable) bool { return p.Table == "public.other" })
	plan.Tables[at].Deletes = 0
	require.Equal(t, 3, lanes(func(o *Options) { o.Plan = plan }))
	_, err := Restore(t.Context(), Options{Archive: w.view(), Plan: plan, DSN: server.DSN("lanes_lie"), Create: true, Jobs: 3})
	require.ErrorContains(t, err, "public.other saw only inserts")
	require.Equal(t, fault.Damage, fault.CodeOf(err))
}
