package pipeline

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stranger makes a role that has no rights at all.
func (w *world) stranger() string {
	w.t.Helper()
	role := "stranger_" + w.db[:20]
	w.exec("CREATE ROLE " + role)
	w.t.Cleanup(func() { _ = w.server.Exec(context.Background(), "postgres", "DROP ROLE "+role) })
	return role
}

// TestLongPrefixDoesNotStopTheStream: anybody may write it.
func TestLongPrefixDoesNotStopTheStream(t *testing.T) {
	w := newWorld(t, nil)
	role := w.stranger()
	r := w.start()
	r.protected()
	for _, transactional := range []bool{true, false} {
		w.exec(fmt.Sprintf("SET ROLE %s; SELECT pg_logical_emit_message(%t, repeat('x', 20000000), 'y')", role, transactional))
	}
	rows := w.insert(1, 3)
	w.archivedPast(w.flush())
	w.holdsOnce(1, rows)
	require.NoError(t, r.end())
}

// TestManyMarksDoNotStopTheStream: of a transaction's marks the first are taken, and all are archived.
func TestManyMarksDoNotStopTheStream(t *testing.T) {
	w := newWorld(t, nil)
	role := w.stranger()
	r := w.start()
	r.protected()
	const many = 60000
	w.exec(fmt.Sprintf("SET ROLE %s; SELECT count(pg_logical_emit_message(true, 'tidemark', 'mark:' || g || repeat('m', 240))) FROM generate_series(1, %d) g", role, many))
	rows := w.insert(1, 3)
	w.archivedPast(w.flush())
	w.holdsOnce(1, rows)
	require.Len(t, w.view().FindMark("1"+strings.Repeat("m", 240)), 1)
	require.Len(t, w.view().FindMark(fmt.Sprint(maxMarks)+strings.Repeat("m", 240)), 1)
	require.Empty(t, w.view().FindMark(fmt.Sprint(maxMarks+1)+strings.Repeat("m", 240)))
	var messages int64
	for _, e := range w.entries(1) {
		if e.Segment != nil {
			messages += e.Segment.Messages
		}
	}
	require.GreaterOrEqual(t, messages, int64(many))
	require.Contains(t, r.log.String(), "a transaction has too many marks")

	after := make(chan error, 1)
	go func() {
		_, err := Mark(context.Background(), w.cfg.DSN, w.store, "after")
		after <- err
	}()
	require.NoError(t, <-after)
	require.NoError(t, r.end())
}

// TestForeignCommitTimesBeyondTheCalendar: whoever may use replication origins gives a commit any time.
func TestForeignCommitTimesBeyondTheCalendar(t *testing.T) {
	w := newWorld(t, nil)
	r := w.start()
	r.protected()
	conn := w.server.Connect(t, w.db)
	defer conn.Close(context.Background())
	name := "origin_" + w.db[:20]
	exec := func(sql string) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec("SELECT pg_replication_origin_create('" + name + "'), pg_replication_origin_session_setup('" + name + "')")
	for i, at := range []string{"infinity", "-infinity", "294276-12-31", "4713-01-01 BC", "10000-01-01"} {
		exec(fmt.Sprintf("BEGIN; SELECT pg_replication_origin_xact_setup('0/%d', '%s'); INSERT INTO t VALUES (%d, '%s'); COMMIT", i+1, at, 90+i, at))
		w.archivedPast(w.flush())
	}
	exec("SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('" + name + "')")
	rows := w.insert(1, 3)
	w.archivedPast(w.flush())
	w.holdsOnce(1, rows)
	require.NoError(t, r.end())
	w.catchUp()
	s, err := ReadStatus(t.Context(), w.cfg.DSN, w.store, time.Now())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), s.RecoverableToTime.Time(), time.Minute)
}
