package pitr

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestForeignCommitTimesBeyondTheCalendar come back like others: as rows, as targets and in the log.
func TestForeignCommitTimesBeyondTheCalendar(t *testing.T) {
	w := newWorld(t, "beyond", "CREATE TABLE t (id int PRIMARY KEY)")
	w.sql("SELECT pg_replication_origin_create('beyond'), pg_replication_origin_session_setup('beyond')")
	for i, at := range []string{"infinity", "-infinity", "infinity", "294276-12-31"} {
		w.sql(fmt.Sprintf("BEGIN; SELECT pg_replication_origin_xact_setup('0/%d', '%s'); INSERT INTO t VALUES (%d); COMMIT", i+1, at, i))
	}
	w.sql("SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('beyond')")
	foreign := w.here()
	w.sql("INSERT INTO t VALUES (10)")
	w.archive()
	w.restore(Target{Kind: ToLatest}, "beyond_1", nil)
	w.sameRows("beyond_1")
	rep := w.restore(Target{Kind: ToLSN, LSN: foreign, Exclusive: true}, "beyond_2", nil)
	require.Equal(t, "4", server.MustQuery(t, "beyond_2", "select count(*) from t"))
	_, err := json.Marshal(rep)
	require.NoError(t, err)
	var times []string
	for line, err := range Log(t.Context(), w.view(), LogQuery{}) {
		require.NoError(t, err)
		text, err := json.Marshal(line)
		require.NoError(t, err)
		times = append(times, string(text))
	}
	require.Len(t, times, 5)
	require.Contains(t, times[0], "+294277-01-09T04:00:54.775807Z")
}
